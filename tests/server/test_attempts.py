"""``GET /api/v1/tasks/{id}/attempts``: what went wrong, and who is told where."""

from __future__ import annotations

import httpx
import msgspec
import pytest
from checked import serve
from credentials import bearer, guarded, token
from fleet import FakeWorker

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio


def record(number: int, at: int) -> bytes:
    """Return the record of an attempt as a worker writes it."""
    return msgspec.json.encode(
        {
            "attempt": number,
            "delivery": number,
            "worker_id": "worker-1",
            "started_at_ms": at,
            "ended_at_ms": at + 250,
            "error": f"error {number}",
            "traceback": "Traceback (most recent call last): ...",
        }
    )


@pytest.fixture
async def task_id(broker: Broker, worker: FakeWorker) -> str:
    """Return a task of the owner "acme" that has failed twice."""
    new = NewTask(id=broker.new_task_id(), type="echo", owner="acme")
    await broker.submit(new)
    for number in (1, 2):
        delivery = await worker.take()
        history = record(number, 1_768_478_400_000 + 1000 * number)
        await worker.fail(delivery, history=history)
        if number == 1:
            await broker.retry(new.id)
    return new.id


async def test_attempts(client: httpx.AsyncClient, task_id: str) -> None:
    """Oldest first, with times, errors and, without authentication, tracebacks."""
    first, second = (await client.get(f"/api/v1/tasks/{task_id}/attempts")).json()["items"]
    assert first == {
        "attempt": 1,
        "delivery": 1,
        "worker_id": "worker-1",
        "started_at": "2026-01-15T12:00:01.000Z",
        "ended_at": "2026-01-15T12:00:01.250Z",
        "duration_ms": 250,
        "error": "error 1",
        "traceback": "Traceback (most recent call last): ...",
    }
    assert second["error"] == "error 2"


async def test_none(client: httpx.AsyncClient) -> None:
    """A task that has not failed has none; without a task there is nothing to list."""
    task = (await client.post("/api/v1/tasks", json={"type": "echo"})).json()
    path = "/api/v1/tasks/{}/attempts"
    assert (await client.get(path.format(task["id"]))).json() == {"items": []}
    for name in ("nonsense", "01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00"):
        assert (await client.get(path.format(name))).status_code == 404


@pytest.mark.parametrize(
    ("claims", "status", "is_told_all"),
    [
        ({"scope": "admin"}, 200, True),
        ({"scope": "tasks:read"}, 200, False),
        ({"scope": "tasks:read", "owner": "acme"}, 200, False),
        ({"scope": "tasks:read", "owner": "other"}, 404, False),
        ({"scope": "tasks:write"}, 403, False),
    ],
)
async def test_who_is_told_what(
    settings: Settings, task_id: str, claims: dict[str, str], status: int, is_told_all: bool
) -> None:
    """Tracebacks are for administrators; another owner's task is not there."""
    application = create_app(guarded(settings), broker=open_broker(settings))
    async with serve(application) as client:
        path = f"/api/v1/tasks/{task_id}/attempts"
        answer = await client.get(path, headers=bearer(token(**claims)))
    assert answer.status_code == status
    assert ("Traceback" in answer.text) == is_told_all
