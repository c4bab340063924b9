"""The operations under ``/admin`` and the health checks, through HTTP and a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from checked import ready
from fleet import FakeWorker
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker
from taskqueue_core.models import HandlerInfo
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import RedisSettings, Settings

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]


async def submit(client: httpx.AsyncClient, **fields: Any) -> str:
    """Submit a task and return its id."""
    response = await client.post("/api/v1/tasks", json={"type": "echo", **fields})
    task_id: str = response.json()["id"]
    return task_id


async def bury(client: httpx.AsyncClient, worker: FakeWorker, error: str = "boom") -> str:
    """Make a dead letter and return its task's id."""
    task_id = await submit(client)
    await worker.fail(await worker.take(), error)
    return task_id


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/admin/queues"])
async def test_queue_stats(client: httpx.AsyncClient, worker: FakeWorker, path: str) -> None:
    """Both paths count waiting and running tasks per priority, and deferred ones."""
    for priority in (0, 1, 1, 3):
        await submit(client, priority=priority)
    await worker.fail(await worker.take(), max_retries=1)
    await worker.take()
    await bury(client, worker)
    stats = (await client.get(path)).json()
    depth = {name: tuple(found.values()) for name, found in stats["queues"].items()}
    assert depth == {"critical": (0, 0), "high": (0, 0), "normal": (2, 1), "low": (1, 0)}
    assert list(stats["queues"]) == ["critical", "high", "normal", "low"]
    assert stats["totals"] == {"queued": 3, "pending_unacked": 1, "deferred": 1}
    assert (stats["scheduled_count"], stats["dlq_size"]) == (1, 1)


async def test_purge_cancels_the_waiting_tasks_of_a_priority(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """Running tasks and other priorities are left alone."""
    running, low, high = await submit(client, priority=0), "", await submit(client, priority=2)
    await worker.take()
    await worker.take()
    low = await submit(client, priority=0)
    purged = await client.delete("/admin/queues/low")
    assert purged.json() == {"message": "queue purged", "priority": "low", "purged_count": 1}
    states = {
        name: (await client.get(f"/api/v1/tasks/{name}")).json()["state"]
        for name in (running, low, high)
    }
    assert states == {running: "running", low: "cancelled", high: "running"}


@pytest.mark.parametrize("name", ["lo", "LOW", "0", "%00"])
async def test_purge_of_another_name(client: httpx.AsyncClient, name: str) -> None:
    """A name that is no priority is refused with those that are."""
    response = await client.delete(f"/admin/queues/{name}")
    assert response.status_code == 400
    assert response.json()["message"] == "priority: must be one of low, normal, high, critical"


async def test_workers(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A live worker is listed, and shown by its id."""
    listed = (await client.get("/admin/workers")).json()
    [row] = listed["workers"]
    shown = (await client.get(f"/admin/workers/{worker.id}")).json()
    assert (row.items() <= shown.items(), listed["count"]) == (True, 1)
    assert (shown["id"], shown["state"], shown["concurrency"]) == (worker.id, "idle", 10)
    await worker.session.deregister()
    assert (await client.get("/admin/workers")).json() == {"workers": [], "count": 0}


async def test_worker_detail(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A worker is shown with its process, queues, handlers, running tasks and rates."""
    path = f"/admin/workers/{worker.id}"
    handlers = {
        "mail": HandlerInfo(
            queue="slow",
            timeout_seconds=30,
            max_retries=5,
            distribution="mailer",
            version="1.2",
            executor="async",
        ),
        "echo": HandlerInfo(),
    }
    await worker.register(handlers)
    task_id = await submit(client)
    await worker.take()
    await worker.session.heartbeat(request=7, active=1, rates=(2.5, 0.25))
    shown = (await client.get(path)).json()
    assert (shown["pid"], shown["hostname"], shown["queues"]) == (4711, "host-1", [])
    assert shown["rates"] == {"completed_per_second": 2.5, "failed_per_second": 0.25}
    nothing = {"queue": "default", "executor": "", "distribution": "", "version": ""}
    assert shown["handlers"] == [
        {"type": "echo", **nothing},
        {
            "type": "mail",
            "queue": "slow",
            "executor": "async",
            "distribution": "mailer",
            "version": "1.2",
            "timeout": 30,
            "max_retries": 5,
        },
    ]
    task = (await client.get(f"/api/v1/tasks/{task_id}")).json()
    started = {"task_id": task_id, "type": "echo", "started_at": task["started_at"]}
    assert shown["running"] == [started]


async def test_pause_and_resume(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Both can be repeated; the worker's state follows at once."""
    path = f"/admin/workers/{worker.id}"
    for action, message, state in [
        ("pause", "worker paused", "paused"),
        ("pause", "worker paused", "paused"),
        ("resume", "worker resumed", "idle"),
        ("resume", "worker resumed", "idle"),
    ]:
        answer = await client.post(f"{path}/{action}")
        assert answer.json() == {"message": message, "worker_id": worker.id}
        assert (await client.get(path)).json()["state"] == state


@pytest.mark.parametrize("worker_id", ["nobody", "..%2f", "a b", "%00", "{x}", "x" * 65])
async def test_unknown_workers(client: httpx.AsyncClient, worker_id: str) -> None:
    """Whatever names no live worker is 404."""
    path = f"/admin/workers/{worker_id}"
    answers = [await client.get(path)]
    answers += [await client.post(f"{path}/{action}") for action in ("pause", "resume")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


async def test_health(client: httpx.AsyncClient) -> None:
    """The two health checks, as load balancers know them."""
    await ready(client)
    healthy = (await client.get("/admin/health")).json()
    assert healthy.pop("checks")["broker"] == {"status": "ok", "message": "the broker answers"}
    assert healthy == {"status": "healthy", "redis": "connected"}
    assert (await client.get("/health")).json() == {"status": "alive"}


async def test_without_a_broker(settings: Settings, serving: Serving) -> None:
    """The process lives, says that it cannot work, and names no address to clients."""
    away = RedisSettings(url="redis://user:secret@127.0.0.1:1/0", max_retries=0)
    async with serving(settings.model_copy(update={"redis": away})) as client:
        assert (await client.get("/health")).status_code == 200
        sick = await client.get("/admin/health")
        refused = await client.post("/api/v1/tasks", json={"type": "echo"})
        workers = await client.get("/admin/workers")
    assert sick.json() == {
        "status": "unhealthy",
        "redis": "disconnected",
        "error": "the broker cannot be reached",
    }
    assert [each.status_code for each in (sick, refused, workers)] == [503, 503, 503]
    assert "127.0.0.1" not in sick.text + refused.text + workers.text


async def test_silent_broker(
    settings: Settings, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that takes connections and says nothing does not keep a probe waiting."""
    monkeypatch.setattr("taskqueue_server.health._PROBE_SECONDS", 0.1)
    with bind_listener("127.0.0.1", 0) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        async with serving(settings.model_copy(update={"redis": RedisSettings(url=url)})) as client:
            async with asyncio.timeout(2):
                assert (await client.get("/admin/health")).status_code == 503


async def test_unreachable_broker_is_said_once_without_its_password(
    settings: Settings, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One log line tells the operator, however often the server tries again."""
    monkeypatch.setattr("taskqueue_server.app._RETRY_SECONDS", 0.001)
    away = RedisSettings(url="redis://user:secret@127.0.0.1:1/0", max_retries=0)
    with capture_logs() as lines:
        async with serving(settings.model_copy(update={"redis": away})) as client:
            for _ in range(20):
                await client.get("/admin/health")
    assert [line["redis"] for line in lines] == ["redis://***@127.0.0.1:1/0"]
    assert "secret" not in str(lines)


async def test_broker_is_left_as_it_should_be(client: httpx.AsyncClient, broker: Broker) -> None:
    """A namespace that only the server has used passes the audit."""
    await submit(client)
    await submit(client, scheduled_at="2024-01-15T12:00:00Z", queue="other")
    assert await broker.inspection.audit() == []
