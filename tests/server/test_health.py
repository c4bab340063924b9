"""What probes are told: of this process, of the broker, and of what waits for a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from checked import ready, serve
from credentials import guarded
from fleet import FakeWorker
from limited import with_queue

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import (
    Depth,
    HandlerInfo,
    NewTask,
    Outcome,
    OutcomeKind,
    Priority,
    QueueStats,
    ServerState,
    Survey,
    WorkerState,
)
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.ending import end_tasks
from taskqueue_server.health import Findings, Health, judge
from taskqueue_server.serving import Server

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]

AWAY = RedisSettings(url="redis://user:secret@127.0.0.1:1/0", max_retries=0)


async def checks(client: httpx.AsyncClient) -> tuple[str, dict[str, Any]]:
    """Return the status of the service and its checks."""
    answer = await client.get("/admin/health")
    assert (answer.status_code, answer.json()["redis"]) == (200, "connected")
    return answer.json()["status"], answer.json()["checks"]


async def test_probes(client: httpx.AsyncClient) -> None:
    """A process that lives and can work says both."""
    assert (await client.get("/health/live")).json() == {"status": "alive"}
    await ready(client)
    assert (await client.get("/health/ready")).json() == {"status": "ready"}


async def test_without_a_broker(settings: Settings, serving: Serving) -> None:
    """It lives, and says why nothing should be sent to it, without an address."""
    async with serving(settings.model_copy(update={"redis": AWAY})) as client:
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.get("/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:taskqueue:problem:not-ready"
    assert answer.json()["message"] == "the broker cannot be reached"
    assert "127.0.0.1" not in answer.text


async def test_a_namespace_of_others(settings: Settings, broker: Broker, serving: Serving) -> None:
    """A broker that answers but must not be used is no reason to send requests."""
    async with serving(with_queue(settings, partitions=2)) as client:
        answer = await client.get("/health/ready")
        status, found = await checks(client)
    assert answer.status_code == 503
    assert answer.json()["message"].startswith("the broker is not prepared yet")
    assert (status, found["broker"]["status"]) == ("degraded", "warn")


async def test_a_part_that_fails(client: httpx.AsyncClient, broker: Broker) -> None:
    """A broker that answers, but not what it is asked, is said to be there and not well."""
    await ready(client)
    await broker.redis.set(broker.partitions[0].queues, "nonsense")
    assert await checks(client) == (
        "degraded",
        {"broker": {"status": "warn", "message": "a part of the broker does not answer"}},
    )
    await broker.redis.delete(broker.partitions[0].queues)


async def test_while_stopping(app: Application, settings: Settings) -> None:
    """As long as listeners are told goodbye, probes are told to send nothing any more."""
    listener = bind_listener("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    server = Server(app, settings)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        await ready(client)
        # It never leaves, so the server waits a second for it.
        await app.hub.join()
        server.should_exit = True
        end = time.monotonic() + 1
        while (answer := await client.get("/health/ready")).status_code == 200:
            assert time.monotonic() < end, "it does not stop"
            await asyncio.sleep(0.005)
        assert answer.json()["message"] == "this server is stopping"
        assert (await client.get("/health/live")).status_code == 200
    await running
    listener.close()


async def test_healthy(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """All is well when a live worker takes what waits."""
    await client.post("/api/v1/tasks", json={"type": "echo", "queue": "mail"})
    await ready(client)
    status, found = await checks(client)
    assert {name: check["status"] for name, check in found.items()} == dict.fromkeys(
        ("broker", "persistence", "memory", "workers", "backlog", "events"), "ok"
    )
    assert status == "healthy"
    assert (found["workers"]["live"], found["workers"]["no_worker"]) == (1, 0)
    assert (found["backlog"]["tasks"], found["backlog"]["limit"]) == (1, 1_000_000)


async def put_aside(broker: Broker, worker: FakeWorker, task_type: str) -> str:
    """Have a worker without the handler put a new task aside, and return its id."""
    task_id = (await broker.submit(NewTask(id=broker.new_task_id(), type=task_type))).id
    delivery = await worker.take()
    outcome = Outcome(
        delivery=delivery, kind=OutcomeKind.HOLD, delay_ms=30_000, duration_ms=86_400_000
    )
    await worker.session.hold([outcome])
    return task_id


async def test_no_worker(client: httpx.AsyncClient, broker: Broker, worker: FakeWorker) -> None:
    """Types and queues that nobody takes are named, shown with the task, and counted."""
    held = await put_aside(broker, worker, "odd")
    await worker.session.deregister()
    picky = FakeWorker(broker, "picky")
    await picky.session.register(
        concurrency=1, version="1", queues=("default",), handlers={"echo": HandlerInfo()}
    )
    created = await client.post("/api/v1/tasks", json={"type": "echo", "queue": "mail"})
    served = await client.post("/api/v1/tasks", json={"type": "echo"})
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    scheduled = await client.post("/api/v1/tasks", json={"type": "odd", "scheduled_at": later})
    status, found = await checks(client)
    assert (status, found["workers"]["status"]) == ("degraded", "warn")
    assert (found["workers"]["no_worker"], found["workers"]["live"]) == (2, 1)
    assert (found["workers"]["types"], found["workers"]["queues"]) == (["odd"], ["mail"])
    assert "taskqueue_no_worker_tasks 2.0" in (await client.get("/metrics")).text
    shown = {
        name: (await client.get(f"/api/v1/tasks/{name}")).json().get("no_worker")
        for name in (held, *(one.json()["id"] for one in (created, served, scheduled)))
    }
    assert list(shown.values()) == [True, True, None, None]


async def test_names_are_kept_from_strangers(settings: Settings, broker: Broker) -> None:
    """Where callers must show a credential, a probe without one learns numbers only."""
    await broker.submit(NewTask(id=broker.new_task_id(), type="secret-type", queue="secret-queue"))
    async with serve(create_app(guarded(settings), broker=open_broker(settings))) as client:
        answer = await client.get("/admin/health")
    assert answer.json()["checks"]["workers"]["no_worker"] == 1
    assert "secret" not in answer.text


async def test_answers_are_used_again(settings: Settings, broker: Broker) -> None:
    """However many ask at once, the broker is asked once a second."""
    now, app = [100.0], create_app(settings, broker=open_broker(settings))
    health = Health(broker, app.hub, lambda: now[0], names_types=True)

    async def asked() -> int:
        # By this client only: what else it was asked is as before.
        info = await broker.redis.info("stats")
        return int(info["total_commands_processed"])

    before = await asked()
    found = await asyncio.gather(*(health.checks() for _ in range(50)))
    once = await asked() - before
    # Judged once too: what it takes to judge grows with the fleet.
    assert found[0] is not None
    assert all(one is not None and one["workers"] is found[0]["workers"] for one in found)
    now[0] += 0.9
    await health.checks()
    assert await asked() - before == once + 1
    now[0] += 0.2
    await health.checks()
    assert await asked() - before > once + 2
    await app._broker.close()


async def test_a_feed_that_stands_still(app: Application, broker: Broker) -> None:
    """How far a server is behind the events is measured, and told when they may be lost."""
    async with serve(app) as client:
        await client.get("/health/ready")
        await app.hub.join()
        await end_tasks(app.hub._reading[0])
        for _ in range(3):
            await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
        _, found = await checks(client)
        assert found["events"]["lag"] == 3
        assert "taskqueue_event_feed_lag_events 3.0" in (await client.get("/metrics")).text
        await app.hub.close()
        assert "taskqueue_event_feed_lag_events 0.0" in (await client.get("/metrics")).text


def findings(**changes: Any) -> Findings:
    """Return what a service finds that is well, but for some changes."""
    found: dict[str, Any] = {
        "stats": stats(0),
        "survey": waiting({}),
        "workers": [worker("idle")],
        "servers": [redis()],
        "event_lag": 0,
        "max_backlog": 1_000,
        "max_events": 100,
        "names_types": True,
    }
    return Findings(**found | changes)


def stats(backlog: int) -> QueueStats:
    """Return depths of nothing, with a backlog."""
    depths = {priority: Depth(0, 0) for priority in Priority}
    return QueueStats(depths=depths, scheduled_count=0, dead_letter_count=0, backlog=backlog)


def waiting(queues: dict[str, int], *, is_complete: bool = True, **held: int) -> Survey:
    """Return what waits."""
    oldest = dict.fromkeys(Priority, 0)
    return Survey(oldest_ms=oldest, waiting=queues, held=held, is_complete=is_complete)


def worker(state: str) -> WorkerState:
    """Return a live worker without handlers."""
    return WorkerState(
        id="w", instance="i", state=state, started_at_ms=0, last_heartbeat_ms=0, active_tasks=0,
        concurrency=1, version="1",
    )  # fmt: skip


def redis(**changes: Any) -> ServerState:
    """Return a server that is well, but for some changes."""
    well = {"has_log": True, "can_write_log": True, "used_bytes": 89, "max_bytes": 100}
    return ServerState(**well | changes)


@pytest.mark.parametrize(
    ("changes", "check", "message"),
    [
        ({}, "", ""),
        ({"servers": [redis(), redis(has_log=False)]}, "persistence", "no append-only file"),
        ({"servers": [redis(can_write_log=False)]}, "persistence", "cannot write"),
        ({"servers": [redis(), redis(used_bytes=90)]}, "memory", "uses 90% of its maxmemory"),
        ({"servers": [redis(max_bytes=0)]}, "", ""),
        ({"survey": waiting({"mail": 3}), "workers": []}, "workers", "of 3 waiting tasks"),
        ({"survey": waiting({}, odd=3, is_complete=False)}, "workers", "of at least 3 waiting"),
        ({"survey": waiting({"mail": 3}), "workers": [worker("paused")]}, "workers", "is paused"),
        (
            {
                "survey": waiting({"mail": 3}),
                "workers": [worker("paused"), worker("shutting_down")],
            },
            "workers",
            "is paused",
        ),
        ({"survey": waiting({"mail": 3})}, "", ""),
        ({"workers": []}, "", ""),
        ({"workers": [worker("paused")]}, "", ""),
        ({"stats": stats(899)}, "", ""),
        ({"stats": stats(900)}, "backlog", "queue.maxqueuesize"),
        ({"event_lag": 50}, "", ""),
        ({"event_lag": 51}, "events", "far behind"),
    ],
)
def test_judgement(changes: dict[str, Any], check: str, message: str) -> None:
    """Each finding that is bad makes its own check warn, and no other."""
    found = judge(findings(**changes))
    assert [name for name, one in found.items() if one["status"] == "warn"] == [check] * bool(check)
    assert not check or message in found[check]["message"]
