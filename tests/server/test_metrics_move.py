"""Every documented metric is there and moves when that happens which it counts."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from checked import ready, serve
from fleet import FakeWorker
from limited import exhaust
from prometheus_client.parser import text_string_to_metric_families
from sockets import submit
from websockets.asyncio.client import connect

from taskqueue_core.broker import Broker
from taskqueue_core.keys import GROUP
from taskqueue_core.models import NewTask, Outcome, OutcomeKind, OutcomeStatus
from taskqueue_core.plugin import PluginHost, TaskContext, handler
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings
from taskqueue_core.worker import Worker
from taskqueue_server.app import Application, create_app

pytestmark = pytest.mark.anyio

_PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"

#: What nothing below moves, with the test that does.
APART = {
    "taskqueue_broker_up": "test_metrics.test_without_a_broker",
    "taskqueue_event_feed_lag_events": "test_health.test_a_feed_that_stands_still",
    "taskqueue_redis_errors_total": "test_calls_that_fail_are_counted",
}


@handler("echo")
async def echo(ctx: TaskContext, payload: dict[str, Any]) -> Any:
    """Return what was sent."""
    return payload


@handler("moody")
async def moody(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Fail the first time."""
    if ctx.attempt == 1:
        raise ValueError("not yet")


@handler("broken")
async def broken(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Fail every time."""
    raise ValueError("never")


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings of a worker that beats and retries quickly, and serves one queue."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(
            namespace=namespace, retry_initial_backoff_seconds=0.05, retry_jitter_factor=0
        ),
        worker=WorkerSettings(
            queues=("default",), heartbeat_interval_seconds=0.1, shutdown_timeout_seconds=5
        ),
    )


@asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[None]:
    """Run a whole worker in this process."""
    host = PluginHost.of(echo, moody, broken)
    worker = Worker(settings, host, worker_id="real", rng=random.Random(1))
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


def new_task(broker: Broker, task_type: str) -> NewTask:
    """Return a task to submit."""
    return NewTask(id=broker.new_task_id(), type=task_type)


async def scrape(http: httpx.AsyncClient) -> dict[str, float]:
    """Return the sum over the series of each metric, by the name it is documented under.

    Of a histogram that is how often something was observed.
    """
    text = (await http.get("/metrics")).text
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        sums[name] += 0.0
        counted = f"{family.name}_count" if family.type == "histogram" else name
        sums[name] += sum(one.value for one in family.samples if one.name == counted)
    return sums


def documented() -> set[str]:
    """Return the names in the table of docs/monitoring.md."""
    page = _PAGE.read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(taskqueue_\w+)` \|", page, re.MULTILINE))


async def die_and_recover(broker: Broker, http: httpx.AsyncClient) -> None:
    """Have a worker lose its lease, another one take over, and the first one come back."""
    stream = broker.partitions[0].stream("apart", 1)
    first, second = (FakeWorker(broker, name, queue="apart") for name in ("first", "second"))
    for worker in (first, second):
        await worker.register({})
    await submit(http, queue="apart")
    lost = await first.take()
    await broker.redis.xclaim(stream, GROUP, "first", 0, [lost.entry_id], idle=16_000, justid=True)
    await second.session.heartbeat(request=2, active=1)
    [taken] = (await second.session.recover(1, streams=[stream])).deliveries
    outcome = Outcome(delivery=lost, kind=OutcomeKind.COMPLETE, value=b"{}")
    assert await first.session.complete([outcome]) == [OutcomeStatus.STALE]
    await second.complete(taken)
    # Somebody has deleted a task by hand.
    await broker.redis.xadd(stream, {"i": "0" * 32})
    await submit(http, queue="apart")
    await second.take()


async def live(broker: Broker, http: httpx.AsyncClient) -> None:
    """Let everything happen that is counted."""
    await submit(http)
    await submit(http, type="moody", max_retries=1)
    await submit(http, type="unheard-of")
    await submit(http, scheduled_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    await submit(http, queue="nobody")
    dead = [await submit(http, type="broken", max_retries=0) for _ in range(2)]
    for task_id in dead:
        answer = await http.get(f"/api/v1/tasks/{task_id}?wait=5")
        assert answer.json()["state"] == "dead_letter"
    await http.post(f"/admin/tasks/{dead[0]}/retry")
    await die_and_recover(broker, http)
    await http.post("/admin/queues/low/pause")
    await exhaust(broker)
    assert (await http.get("/api/v1/tasks")).status_code == 429


async def test_every_documented_metric_moves(
    address: str, broker: Broker, settings: Settings
) -> None:
    """In one small system; the table of the documents names all there are, and no other."""
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        before = await scrape(http)
        async with at_work(settings), connect(f"ws://{address}/ws", max_queue=None):
            await live(broker, http)
            end = time.monotonic() + 10
            while still := {name for name, value in (await scrape(http)).items()
                            if value == before[name]} - APART.keys():  # fmt: skip
                assert time.monotonic() < end, f"these do not move: {sorted(still)}"
                await asyncio.sleep(0.02)
            now = await scrape(http)
    assert now.keys() == documented()
    once = ("lost_leases", "orphan_claims", "orphan_entries", "stale_outcomes", "misrouted")
    names = [f"taskqueue_{name}_total" for name in once]
    assert [now[name] - before[name] for name in names] == [1] * len(names)
    fallen = {name for name in now if name.endswith("_total") and now[name] < before[name]}
    assert fallen == set()


async def test_calls_that_fail_are_counted(settings: Settings) -> None:
    """By what was called, while Redis is away and while it refuses."""
    away = settings.model_copy(
        update={"redis": RedisSettings(url="redis://127.0.0.1:1/0", max_retries=0)}
    )
    async with serve(create_app(away)) as client:
        assert (await client.get("/admin/queues")).status_code == 503
        text = (await client.get("/metrics")).text
    assert 'taskqueue_redis_errors_total{operation="depths"} 1.0' in text
    assert 'taskqueue_redis_operation_duration_seconds_count{operation="depths"} 1.0' in text


async def test_invented_types_make_no_series(app: Application, broker: Broker) -> None:
    """Ten thousand types that nobody handles are one label, wherever they get to."""
    worker = FakeWorker(broker)
    await worker.register()
    async with serve(app) as client:

        async def series() -> set[str]:
            lines = (await client.get("/metrics")).text.splitlines()
            return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

        async def invent(count: int) -> None:
            number = random.randrange(10**9)
            tasks = [new_task(broker, f"odd-{number}-{n}") for n in range(count)]
            for at in range(0, count, 1_000):
                await broker.submit_many(tasks[at : at + 1_000])
            names = [task.type for task in tasks[:20]]
            counters = {f"duration:{name}:3": 1 for name in names}
            await worker.session.heartbeat(request=number, active=0, counters=counters)

        await invent(1)
        await series()
        before = await series()
        await invent(10_000)
        assert await series() == before


async def commands(client: httpx.AsyncClient, broker: Broker, path: str) -> int:
    """Return how many commands Redis runs for a request, those inside of scripts included."""
    redis: Any = broker.redis
    before = (await redis.info("stats"))["total_commands_processed"]
    assert (await client.get(path)).status_code == 200
    after = (await redis.info("stats"))["total_commands_processed"]
    return int(after) - int(before) - 1


@pytest.mark.parametrize("path", ["/metrics", "/admin/queues", "/admin/health"])
async def test_a_look_costs_the_same(
    app: Application, broker: Broker, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does as much for it with two tasks as with thousands, and not much."""
    monkeypatch.setattr("taskqueue_server.health.MAX_AGE_SECONDS", 0.0)
    await FakeWorker(broker).register()
    await broker.submit_many([new_task(broker, "echo") for _ in range(2)])
    async with serve(app) as client:
        await ready(client)
        await client.get(path)
        few = await commands(client, broker, path)
        await broker.submit_many([new_task(broker, "echo") for _ in range(3_000)])
        assert await commands(client, broker, path) == few
    assert 0 < few < 60
