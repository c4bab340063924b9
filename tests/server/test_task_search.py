"""``GET /admin/tasks``: filters and pages through HTTP; the broker's own tests have the rest."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fleet import FakeWorker

pytestmark = pytest.mark.anyio


async def submit(client: httpx.AsyncClient, **fields: Any) -> str:
    """Submit a task and return its id."""
    response = await client.post("/api/v1/tasks", json={"type": "echo", **fields})
    task_id: str = response.json()["id"]
    return task_id


async def find(client: httpx.AsyncClient, **query: str) -> list[str]:
    """Return the ids on the first page."""
    found = (await client.get("/admin/tasks", params=query)).json()
    return [task["id"] for task in found["items"]]


async def test_pages(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Tasks in all states, each once, as they are shown alone; the last page has no cursor."""
    ended = await submit(client)
    await worker.complete(await worker.take(), b'{"n":1}')
    running = await submit(client)
    await worker.take()
    waiting = [await submit(client, priority=number) for number in (0, 3)]
    later = await submit(client)
    tasks: list[Any] = []
    query = {"limit": "2"}
    while True:
        page = (await client.get("/admin/tasks", params=query)).json()
        tasks += page["items"]
        if "next_cursor" not in page:
            break
        query["cursor"] = page["next_cursor"]
    assert [task["id"] for task in tasks] == [running, waiting[1], later, waiting[0], ended]
    for task in tasks:
        assert task == (await client.get(f"/api/v1/tasks/{task['id']}")).json()


async def test_filters(client: httpx.AsyncClient) -> None:
    """Each of them, and several at once."""
    one = await submit(client, type="mail", queue="slow", priority=3, metadata={"user": "a=b"})
    two = await submit(client)
    await client.delete(f"/api/v1/tasks/{two}")
    created = (await client.get(f"/api/v1/tasks/{one}")).json()["created_at"]
    for query, expected in [
        ({"state": "cancelled"}, [two]),
        ({"state": "running"}, []),
        ({"type": "mail"}, [one]),
        ({"queue": "default"}, [two]),
        ({"priority": "critical"}, [one]),
        ({"priority": "critical", "state": "cancelled"}, []),
        ({"metadata": "user=a=b"}, [one]),
        ({"metadata": "user="}, []),
        ({"created_after": created}, [one, two]),
        ({"created_after": "2999-01-01T00:00:00+01:00"}, []),
        ({"created_before": created}, []),
        ({"created_before": "2999-01-01T00:00:00Z"}, [one, two]),
    ]:
        assert await find(client, **query) == expected, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=sleeping", "state"),
        ("type=1st", "type"),
        ("queue=a:b", "queue"),
        ("priority=2", "priority"),
        ("metadata=novalue", "metadata"),
        ("metadata==x", "metadata"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2026-01-01T00:00:00", "created_before"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("since=1", "since"),
    ],
)
async def test_wrong_queries(client: httpx.AsyncClient, query: str, field: str) -> None:
    """Each is refused with the name of the parameter."""
    answer = await client.get(f"/admin/tasks?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_cursor_is_of_its_filters(client: httpx.AsyncClient) -> None:
    """With other filters it is refused, with another limit it is not; so in the dead letters."""
    for _ in range(3):
        await submit(client)
    cursor = (await client.get("/admin/tasks?limit=1")).json()["next_cursor"]
    assert len(await find(client, cursor=cursor, limit="200")) == 2
    for path in ("/admin/tasks?state=pending&", "/admin/dlq?"):
        answer = await client.get(f"{path}cursor={cursor}")
        assert (answer.status_code, answer.json()["field"]) == (400, "cursor")
