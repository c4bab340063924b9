"""The operations on dead letters: pages, groups, and ways back into the queue."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fleet import FakeWorker

from taskqueue_core.broker import Broker
from taskqueue_core.plugin.schemas import HandlerSchemas

pytestmark = pytest.mark.anyio


async def bury(
    client: httpx.AsyncClient, worker: FakeWorker, error: str = "boom", **fields: Any
) -> str:
    """Make a dead letter and return its task's id."""
    response = await client.post("/api/v1/tasks", json={"type": "echo", **fields})
    task_id: str = response.json()["id"]
    await worker.fail(await worker.take(), error)
    return task_id


async def state_of(client: httpx.AsyncClient, task_id: str) -> str:
    """Return the state of a task."""
    state: str = (await client.get(f"/api/v1/tasks/{task_id}")).json()["state"]
    return state


async def test_dead_letters(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Newest first, each with its task and the fields older clients read."""
    first, second = await bury(client, worker, "one"), await bury(client, worker, "two")
    found = (await client.get("/admin/dlq")).json()
    assert (found["size"], [entry["task_id"] for entry in found["entries"]]) == (2, [second, first])
    entry = found["entries"][0]
    assert (entry["task_type"], entry["original_error"]) == ("echo", "two")
    assert entry["reason"] == "max_retries"
    assert entry["task"] == (await client.get(f"/api/v1/tasks/{second}")).json()


async def test_retry_of_one_dead_letter(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """It goes back to its queue; the second time it is not there."""
    task_id = await bury(client, worker)
    retried = await client.post("/admin/dlq/retry", json={"task_id": task_id, "message_id": None})
    assert retried.json() == {"message": "task re-queued", "task_id": task_id}
    again = await client.post("/admin/dlq/retry", json={"task_id": task_id})
    assert (again.status_code, again.json()["detail"]) == (
        404,
        f"dead letter {task_id} not found",
    )


async def test_retry_names_one_death(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """With another death's id nothing happens."""
    task_id = await bury(client, worker)
    message_id = (await client.get("/admin/dlq")).json()["entries"][0]["message_id"]
    stale = {"task_id": task_id, "message_id": "1-1"}
    assert (await client.post("/admin/dlq/retry", json=stale)).status_code == 404
    named = {"task_id": task_id, "message_id": message_id}
    assert (await client.post("/admin/dlq/retry", json=named)).status_code == 200


async def test_retry_of_all_dead_letters(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """All of them go back, and are counted."""
    for _ in range(3):
        await bury(client, worker)
    retried = await client.post("/admin/dlq/retry", json={"retry_all": True})
    assert retried.json() == {"message": "tasks re-queued", "retried_count": 3}
    assert (await client.get("/admin/queues")).json()["totals"]["queued"] == 3


async def test_clear_dead_letters(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """The tasks stay readable as failed ones."""
    task_id = await bury(client, worker)
    cleared = await client.delete("/admin/dlq")
    assert cleared.json() == {"message": "DLQ cleared", "cleared_count": 1}
    assert (await client.get("/admin/dlq")).json() == {"entries": [], "size": 0}
    assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["state"] == "failed"


async def test_pages(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Each dead letter is on one page; the size is that of all, whatever the filter."""
    made = [await bury(client, worker, f"error {number}") for number in range(5)]
    found: list[str] = []
    query = {"limit": "2"}
    while True:
        page = (await client.get("/admin/dlq", params=query)).json()
        assert page["size"] == 5
        found += [entry["task_id"] for entry in page["entries"]]
        if "next_cursor" not in page:
            break
        query["cursor"] = page["next_cursor"]
    assert found == made[::-1]


async def test_filters(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """By type, queue, reason and a part of the error."""
    one = await bury(client, worker, "timeout after 5 s")
    two = await bury(client, worker, "refused", type="other")
    for query, expected in [
        ("type=other", [two]),
        ("queue=default", [two, one]),
        ("queue=mail", []),
        ("reason=max_retries", [two, one]),
        ("reason=poison", []),
        ("error=after%205", [one]),
        ("error=refused&type=echo", []),
    ]:
        found = (await client.get(f"/admin/dlq?{query}")).json()
        assert [entry["task_id"] for entry in found["entries"]] == expected
        assert found["size"] == 2


async def test_groups(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Numbers by type, reason and error, the largest first, of what fits the filter."""
    for error, task_type in [("a", "echo"), ("b", "echo"), ("b", "echo"), ("b", "other")]:
        await bury(client, worker, error, type=task_type)
    found = (await client.get("/admin/dlq/groups?type=echo")).json()
    rows = [(one["task_type"], one["error"], one["count"]) for one in found["items"]]
    assert rows == [("echo", "b", 2), ("echo", "a", 1)]
    assert (found["items"][0]["reason"], found["counted"], found["size"]) == ("max_retries", 4, 4)


async def test_retry_by_filter(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A dry run tells how many there are; then these go back, and the others stay."""
    wanted = [await bury(client, worker, "timeout") for _ in range(3)]
    other = await bury(client, worker, "refused")
    body: dict[str, Any] = {"filter": {"error": "time", "type": "echo"}}
    dry = await client.post("/admin/dlq/retry", json=body | {"dry_run": True})
    assert dry.json() == {
        "message": "dry run: nothing was changed",
        "retried_count": 0,
        "matched_count": 3,
    }
    assert (await client.get("/admin/dlq")).json()["size"] == 4
    done = await client.post("/admin/dlq/retry", json=body | {"dry_run": False})
    assert done.json() == {"message": "tasks re-queued", "retried_count": 3}
    states = [await state_of(client, task_id) for task_id in [*wanted, other]]
    assert states == ["pending"] * 3 + ["dead_letter"]


async def test_dry_run_of_all(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """All are counted, none is changed."""
    for _ in range(2):
        await bury(client, worker)
    dry = await client.post("/admin/dlq/retry", json={"retry_all": True, "dry_run": True})
    assert dry.json()["matched_count"] == 2
    assert (await client.get("/admin/dlq")).json()["size"] == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "body: must be either task_id"),
        ({"task_id": "x", "retry_all": True}, "body: must be either task_id"),
        ({"task_id": "x", "dry_run": True}, "body: must be either task_id"),
        ({"task_id": "x", "filter": {"type": "a"}}, "body: must be either task_id"),
        ({"retry_all": False}, "retry_all: must be one of true"),
        ({"task_id": "x", "payload": [1]}, "payload: "),
        ({"filter": {}}, "filter: "),
        ({"filter": {"type": None}}, "filter/type: "),
        ({"filter": {"error": ""}}, "filter/error: "),
        ({"filter": {"state": "x"}}, "filter/state: is not a field of the contract"),
        ({"filter": {"type": "a"}, "dry_run": "yes"}, "dry_run: "),
    ],
)
async def test_wrong_requests(client: httpx.AsyncClient, body: Any, message: str) -> None:
    """Whatever could mean more than one thing, or nothing, changes nothing and says why."""
    answer = await client.post("/admin/dlq/retry", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)


async def test_replay_of_an_edited_payload(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """The task goes back with the new payload as it was sent, its metadata kept."""
    task_id = await bury(client, worker, payload={"n": 1}, metadata={"customer": "17"})
    payload = '{"n": 18446744073709551617, "t":"\u00e9"}'
    raw = f'{{"task_id":"{task_id}","payload":{payload}}}'
    json = {"content-type": "application/json"}
    edited = await client.post("/admin/dlq/retry", content=raw.encode(), headers=json)
    assert edited.json() == {"message": "task re-queued", "task_id": task_id}
    shown = await client.get(f"/api/v1/tasks/{task_id}")
    assert f'"payload":{payload}' in shown.text
    assert (shown.json()["metadata"], shown.json()["state"]) == ({"customer": "17"}, "pending")
    assert (await worker.take()).attempts == 1


async def test_edited_payloads_are_checked(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """As at submission: what does not fit the handler's schema is refused, nothing changes."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    await worker.register(schemas={"echo": HandlerSchemas(payload=schema)})
    task_id = await bury(client, worker)
    wrong = {"task_id": task_id, "payload": {"n": "one"}}
    answer = await client.post("/admin/dlq/retry", json=wrong)
    assert (answer.status_code, answer.json()["field"]) == (400, "payload/n")
    assert await state_of(client, task_id) == "dead_letter"
    fine = {"task_id": task_id, "payload": {"n": 1}}
    assert (await client.post("/admin/dlq/retry", json=fine)).status_code == 200


@pytest.mark.parametrize("is_known", [True, False])
async def test_edit_of_what_is_no_dead_letter(
    client: httpx.AsyncClient, worker: FakeWorker, broker: Broker, is_known: bool
) -> None:
    """It is not found, and not changed."""
    task_id = broker.new_task_id()
    if is_known:
        task_id = (await client.post("/api/v1/tasks", json={"type": "echo"})).json()["id"]
    answer = await client.post("/admin/dlq/retry", json={"task_id": task_id, "payload": {"n": 1}})
    message = f"dead letter {task_id} not found"
    assert (answer.status_code, answer.json()["detail"]) == (404, message)
    if is_known:
        assert (await client.get(f"/api/v1/tasks/{task_id}")).json()["payload"] == {}
