"""The operations of the tag ``tasks``, through HTTP and a real broker."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from fleet import FakeWorker

from taskqueue_core.broker import Broker
from taskqueue_core.models import HandlerInfo
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_MISSING = "01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00"


async def submit(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Submit a task and return the answer."""
    response = await client.post("/api/v1/tasks", json={"type": "echo", **fields})
    assert response.status_code == 201, response.text
    task: dict[str, Any] = response.json()
    return task


async def read(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """Return a task as it is now."""
    task: dict[str, Any] = (await client.get(f"/api/v1/tasks/{task_id}")).json()
    return task


async def test_minimal_submission_gets_the_defaults(client: httpx.AsyncClient) -> None:
    """Only the type is needed; the answer shows what holds for the rest."""
    task = await submit(client)
    assert _TIME.fullmatch(task.pop("created_at"))
    assert _TIME.fullmatch(task.pop("updated_at"))
    del task["id"]
    assert task == {
        "type": "echo",
        "queue": "default",
        "payload": {},
        "priority": "normal",
        "state": "pending",
        "attempts": 0,
        "deliveries": 0,
        "max_retries": 3,
        "timeout": 300,
    }


async def test_location_leads_to_the_same_task(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """The answer to a submission is the task as GET shows it; ids are read in either case."""
    response = await client.post("/api/v1/tasks", json={"type": "echo", "priority": 3})
    task = response.json()
    assert response.headers["location"] == f"/api/v1/tasks/{task['id']}"
    assert await read(client, task["id"]) == task
    assert await read(client, task["id"].upper()) == task


async def test_everything_sent_comes_back(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Every field of a submission is part of the task."""
    fields = {
        "payload": {"to": "a@b.c", "n": [1, {"x": None}]},
        "max_retries": 0,
        "timeout": 86400,
        "metadata": {"user_id": "123", "ключ": "значение"},
        "queue": "mail",
    }
    task = await submit(client, **fields, priority=0)
    stored = await read(client, task["id"])
    assert stored == task
    assert stored["priority"] == "low"
    assert {name: stored[name] for name in fields} == fields


async def test_payload_comes_back_as_the_bytes_that_were_sent(client: httpx.AsyncClient) -> None:
    """Integers beyond 64 bits, number forms, order and spacing survive."""
    payload = b'{ "big":18446744073709551617,"f":1.50,"e":1e2,\n "u":"\\u00e9","pay":{}}'
    body = b'{"pay\\u006coad":' + payload + b',"type":"echo"}'
    headers = {"content-type": 'Application/JSON; charset="UTF-8"'}
    created = await client.post("/api/v1/tasks", content=body, headers=headers)
    assert created.status_code == 201
    assert payload in created.content
    assert payload in (await client.get(created.headers["location"])).content


async def test_null_means_not_sent(client: httpx.AsyncClient) -> None:
    """An optional field that is null gets its default."""
    names = ("payload", "priority", "queue", "max_retries", "timeout", "scheduled_at", "metadata")
    task = await submit(client, **dict.fromkeys(names))
    assert (task["payload"], task["priority"], task["queue"]) == ({}, "normal", "default")
    assert (task["max_retries"], task["timeout"], "metadata" in task) == (3, 300, False)


async def test_future_task_is_scheduled(client: httpx.AsyncClient) -> None:
    """A task for later waits; its time comes back in UTC, finer parts rounded up."""
    later = datetime.now(UTC).replace(microsecond=500) + timedelta(days=364)
    sent = later.astimezone(timezone(-timedelta(hours=3))).isoformat()
    task = await submit(client, scheduled_at=sent)
    assert task["state"] == "scheduled"
    assert task["scheduled_at"] == f"{later:%Y-%m-%dT%H:%M:%S}.001Z"
    assert await read(client, task["id"]) == task


async def test_past_schedule_means_at_once(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A time in the past, however long ago, is kept; the task waits in its queue."""
    for sent, kept in [
        ("2024-01-15t12:00:00z", "2024-01-15T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
    ]:
        task = await submit(client, scheduled_at=sent)
        assert (task["state"], task["scheduled_at"]) == ("pending", kept)
        assert await read(client, task["id"]) == task


async def test_handler_defaults_hold_where_nothing_is_sent(
    client: httpx.AsyncClient, broker: Broker
) -> None:
    """Queue, timeout and retries are those the type's live handler published."""
    info = HandlerInfo(queue="mail", timeout_seconds=30, max_retries=5)
    await FakeWorker(broker).register({"email": info})
    task = await submit(client, type="email")
    assert (task["queue"], task["timeout"], task["max_retries"]) == ("mail", 30, 5)
    assert await read(client, task["id"]) == task
    own = await submit(client, type="email", queue="own", timeout=7, max_retries=0)
    assert (own["queue"], own["timeout"], own["max_retries"]) == ("own", 7, 0)


async def test_running_task(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A running task names its worker and cannot be cancelled or retried."""
    task = await submit(client)
    await worker.take()
    running = await read(client, task["id"])
    assert (running["state"], running["worker_id"]) == ("running", worker.id)
    assert (running["attempts"], running["deliveries"]) == (1, 1)
    cancelled = await client.delete(f"/api/v1/tasks/{task['id']}")
    retried = await client.post(f"/admin/tasks/{task['id']}/retry")
    assert (cancelled.status_code, retried.status_code) == (409, 409)
    assert task["id"] in cancelled.json()["message"]


async def test_completed_task(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A completed task has the result as the handler returned it."""
    task = await submit(client)
    await worker.complete(await worker.take(), b'{"n":123456789012345678901234567890}')
    done = await read(client, task["id"])
    assert (done["state"], done["result"]) == ("completed", {"n": 123456789012345678901234567890})
    assert done["completed_at"] >= done["started_at"] >= done["created_at"]
    assert "error" not in done


async def test_retrying_task(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A task between attempts says when the next is, and can be cancelled."""
    task = await submit(client)
    await worker.fail(await worker.take(), "no route", max_retries=3)
    retrying = await read(client, task["id"])
    assert (retrying["state"], retrying["error"]) == ("retrying", "no route")
    assert retrying["next_retry_at"] == retrying["scheduled_at"] > retrying["updated_at"]
    cancelled = (await client.delete(f"/api/v1/tasks/{task['id']}")).json()
    assert (cancelled["state"], "next_retry_at" in cancelled) == ("cancelled", False)


async def test_cancelling_and_retrying(client: httpx.AsyncClient) -> None:
    """A cancelled task is final until it is retried by hand."""
    path = f"/api/v1/tasks/{(await submit(client))['id']}"
    assert (await client.delete(path)).json()["state"] == "cancelled"
    again = await client.delete(path)
    assert (again.status_code, again.json()["type"]) == (
        409,
        "urn:taskqueue:problem:state-conflict",
    )
    retried = await client.post(path.replace("/api/v1", "/admin") + "/retry")
    assert retried.json() == {"message": "task re-queued", "task_id": path.rpartition("/")[2]}
    assert (await client.get(path)).json()["state"] == "pending"


async def test_failed_task_starts_over_when_retried(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """Attempts start again at 0, and the task leaves the dead letters."""
    task = await submit(client)
    await worker.fail(await worker.take())
    dead = await read(client, task["id"])
    assert (dead["state"], dead["attempts"], dead["error"]) == ("dead_letter", 1, "boom")
    assert (await client.post(f"/admin/tasks/{task['id']}/retry")).status_code == 200
    fresh = await read(client, task["id"])
    assert (fresh["state"], fresh["attempts"]) == ("pending", 0)
    assert (await client.get("/admin/dlq")).json() == {"entries": [], "size": 0}


@pytest.mark.parametrize("task_id", [_MISSING, "no-uuid", "%00", "é", _MISSING[:-2] + "ff"])
async def test_unknown_tasks(client: httpx.AsyncClient, task_id: str) -> None:
    """No task, no partition, no UUID: all are 404, whatever is asked of them."""
    answers = [
        await client.get(f"/api/v1/tasks/{task_id}"),
        await client.delete(f"/api/v1/tasks/{task_id}"),
        await client.post(f"/admin/tasks/{task_id}/retry"),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert {answer.json()["type"] for answer in answers} == {"urn:taskqueue:problem:not-found"}


async def test_full_queue(settings: Settings, broker: Broker, serving: Serving) -> None:
    """Beyond the limit submissions are refused for now, with a time to come again."""
    queue = settings.queue.model_copy(update={"max_queue_size": 1})
    async with serving(settings.model_copy(update={"queue": queue})) as client:
        await submit(client)
        refused = await client.post("/api/v1/tasks", json={"type": "echo"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"] == "Service Unavailable"
    assert (await broker.inspection.queue_stats()).backlog == 1


async def test_too_many_queues(settings: Settings, serving: Serving) -> None:
    """A submission that would open one queue too many is refused for good."""
    queue = settings.queue.model_copy(update={"max_queues": 1})
    async with serving(settings.model_copy(update={"queue": queue})) as client:
        await submit(client, queue="one")
        refused = await client.post("/api/v1/tasks", json={"type": "echo", "queue": "two"})
    assert (refused.status_code, refused.json()["field"]) == (400, "queue")
