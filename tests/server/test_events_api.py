"""``GET /api/v1/events``: past events page by page, filtered, and what is gone said aloud."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from checked import serve
from credentials import bearer, guarded, token
from fleet import FakeWorker

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio


async def page(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    """Return one page."""
    response = await client.get("/api/v1/events", params=query)
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def everything(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """Return all pages together."""
    found: list[dict[str, Any]] = []
    while True:
        one = await page(client, **query)
        if one["next_cursor"] == query.get("after", "0"):
            return found
        found += one["items"]
        query["after"] = one["next_cursor"]


def kinds(items: list[dict[str, Any]]) -> list[str]:
    """Return the types without their common beginning."""
    return [item["type"].removeprefix("task.") for item in items]


async def submit(broker: Broker, count: int = 1) -> list[str]:
    """Submit tasks in one call; their ids."""
    tasks = [NewTask(id=broker.new_task_id(), type="echo") for _ in range(count)]
    await broker.submit_many(tasks)
    return [task.id for task in tasks]


async def test_nothing_has_happened(client: httpx.AsyncClient) -> None:
    """The place of nothing is a place to go on from."""
    assert await page(client) == {"items": [], "next_cursor": "0"}
    assert await page(client, after="0") == {"items": [], "next_cursor": "0"}


async def test_the_latest_place(client: httpx.AsyncClient, broker: Broker) -> None:
    """Nothing of the past is behind it, everything that happens afterwards is."""
    assert await page(client, after="latest") == {"items": [], "next_cursor": "0"}
    before = await submit(broker, 3)
    now = await page(client, after="latest")
    (task_id,) = await submit(broker)
    found = await page(client, after=now["next_cursor"])
    assert now["items"] == []
    assert [item["data"]["task_id"] for item in found["items"]] == [task_id]
    assert task_id not in before


@pytest.mark.parametrize("limit", [1, 3, 100, 1000])
async def test_pages(client: httpx.AsyncClient, broker: Broker, limit: int) -> None:
    """Every event once, in order; each id is a place to go on from."""
    for _ in range(3):
        await submit(broker, 40)
    found = await everything(client, limit=limit)
    assert [int(item["id"].rpartition("-")[2]) for item in found] == list(range(1, 121))
    rest = await page(client, after=found[99]["id"], limit=1000)
    assert (rest["items"], rest["next_cursor"]) == (found[100:], found[-1]["id"])


async def test_a_page_has_a_hundred(client: httpx.AsyncClient, broker: Broker) -> None:
    """Unless another number is asked for."""
    await submit(broker, 100)
    await submit(broker, 100)
    assert len((await page(client))["items"]) == 100


async def test_filters(client: httpx.AsyncClient, broker: Broker, worker: FakeWorker) -> None:
    """Types and a task narrow the pages; either may be asked for alone."""
    ids = await submit(broker, 2)
    for _ in ids:
        await worker.complete(await worker.take())
    assert kinds((await page(client, task_id=ids[1]))["items"]) == [
        "submitted",
        "started",
        "completed",
    ]
    ends = (await page(client, events="task.completed,worker.joined"))["items"]
    assert kinds(ends) == ["worker.joined", "completed", "completed"]
    both = (await page(client, events="task.completed", task_id=ids[0].upper()))["items"]
    assert [item["data"]["task_id"] for item in both] == [ids[0]]
    nobody = broker.new_task_id()[:-2] + "ff"  # of a partition that there is not
    assert (await page(client, task_id=nobody))["items"] == []


async def test_filtered_pages_go_on(client: httpx.AsyncClient, broker: Broker) -> None:
    """A page ends behind its last event, whatever lies between the wanted ones."""
    wanted = []
    for _ in range(5):
        await submit(broker, 30)
        (task_id,) = await submit(broker)
        await broker.cancel(task_id)
        wanted.append(task_id)
    found = await everything(client, events="task.cancelled", limit=2)
    assert [item["data"]["task_id"] for item in found] == wanted


async def test_a_page_looks_at_a_bounded_number(
    client: httpx.AsyncClient, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is wanted it is empty, but not the last: its place has moved."""
    monkeypatch.setattr("taskqueue_server.operations.events.MOST_LOOKED_AT", 50)
    await submit(broker, 100)
    (task_id,) = await submit(broker)
    await broker.cancel(task_id)
    first = await page(client, events="task.cancelled", limit=10)
    assert first["items"] == []
    assert first["next_cursor"] != "0"
    assert kinds(await everything(client, events="task.cancelled", limit=10)) == ["cancelled"]


async def test_gaps(client: httpx.AsyncClient, broker: Broker) -> None:
    """They are told whatever is wanted, and the page goes on behind them."""
    await submit(broker, 5)
    (task_id,) = await submit(broker)
    start = (await page(client, limit=1))["next_cursor"]
    await broker.redis.xtrim(broker.partitions[0].events, minid="6-0", approximate=False)
    for query in ({}, {"events": "task.submitted"}, {"task_id": task_id}):
        gap, event = (await page(client, after=start, **query))["items"]
        assert gap["data"] == {"missed": 4, "reason": "trimmed"}
        assert event["data"]["task_id"] == task_id
    alone = await page(client, after=start, limit=1)
    assert kinds(alone["items"]) == ["events.gap"]
    assert kinds((await page(client, after=alone["next_cursor"]))["items"]) == ["submitted"]
    assert kinds((await page(client))["items"]) == ["submitted"]


async def test_states_follow_from_events(
    client: httpx.AsyncClient, broker: Broker, worker: FakeWorker
) -> None:
    """The last event of each task says the state that it is in."""
    ids = await submit(broker, 8)
    await broker.cancel(ids[7])
    for _ in ids[:3]:
        await worker.complete(await worker.take())
    await worker.fail(await worker.take())
    await worker.fail(await worker.take(), max_retries=1)
    await worker.take()
    states = {
        item["data"]["task_id"]: item["data"]["state"]
        for item in await everything(client, limit=7)
        if "task_id" in item["data"]
    }
    stored = {task_id: (await client.get(f"/api/v1/tasks/{task_id}")).json() for task_id in ids}
    assert states == {task_id: task["state"] for task_id, task in stored.items()}
    assert len(set(states.values())) == 6


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=1", "after"),
        ("after=", "after"),
        ("after=0.0", "after"),
        ("after=abcdef0123-01", "after"),
        ("after=" + "0" * 8_000, "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1.0", "limit"),
        ("limit=ten", "limit"),
        ("limit=" + "1" * 400, "limit"),
        ("events=", "events/0"),
        ("events=task.submitted,task.*", "events/1"),
        ("events=" + ",".join(["task.started"] * 65), "events"),
        ("task_id=no-task", "task_id"),
        ("since=0", "since"),
    ],
)
async def test_nonsense_is_refused(client: httpx.AsyncClient, query: str, field: str) -> None:
    """The answer names the parameter."""
    response = await client.get(f"/api/v1/events?{query}")
    assert (response.status_code, response.json()["field"]) == (400, field)
    assert len(response.json()["message"]) < 500


async def test_owners_see_their_own(settings: Settings, broker: Broker) -> None:
    """A token with an owner sees what happens to its tasks, and gaps; nothing of the fleet."""
    mine = bearer(token(scope="tasks:read tasks:write", owner="acme"))
    other = bearer(token(scope="tasks:read tasks:write", owner="other"))
    await FakeWorker(broker).register()
    async with serve(create_app(guarded(settings), broker=open_broker(settings))) as client:
        ids = {}
        for name, headers in (("mine", mine), ("other", other)):
            answer = await client.post("/api/v1/tasks", json={"type": "echo"}, headers=headers)
            ids[name] = answer.json()["id"]
        items = (await client.get("/api/v1/events", headers=mine)).json()["items"]
        assert [item["data"].get("task_id") for item in items] == [ids["mine"]]
        foreign = await client.get(f"/api/v1/events?task_id={ids['other']}", headers=mine)
        assert foreign.json()["items"] == []
