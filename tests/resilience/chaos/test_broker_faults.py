"""The broker is killed, stopped, emptied, cut off in mid-write, and runs out of disk."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from staff import at_work, ended, kill, reached, submit, until
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, embedded, open_broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.models import Outcome, OutcomeKind
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio


@handler("nap", timeout=60)
async def nap(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Sleep and answer with the delivery's number."""
    await asyncio.sleep(payload.get("seconds", 0))
    return ctx.fence


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run the API in this process and yield a client of it."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        yield http


async def post(http: httpx.AsyncClient) -> tuple[int, float]:
    """Submit a task; the status and how long it took."""
    began = time.monotonic()
    answer = await http.post("/api/v1/tasks", json={"type": "nap"}, timeout=30)
    return answer.status_code, time.monotonic() - began


@pytest.mark.parametrize("policy", ["everysec", "always"])
async def test_kill_9_loses_nothing_that_was_answered(
    victim: EmbeddedBroker, fragile_broker: Broker, policy: str
) -> None:
    """Whatever was accepted a moment before kill -9 is there afterwards."""
    client: Any = fragile_broker.redis
    await client.config_set("appendfsync", policy)
    accepted: list[str] = []

    async def feed() -> None:
        while True:
            accepted.append(await submit(fragile_broker, "nap"))

    feeding = asyncio.create_task(feed())

    async def are_enough() -> bool:
        return len(accepted) >= 200

    await until(are_enough, "200 tasks")
    kill(victim)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    assert victim.revive()
    for task_id in accepted:
        assert (await fragile_broker.inspection.get(task_id)).state is TaskState.PENDING


@pytest.mark.parametrize("seed", range(4))
async def test_append_only_file_cut_anywhere(
    victim: EmbeddedBroker, fragile: Settings, seed: int
) -> None:
    """Cut at a random byte, it holds the transitions up to some moment, each of them whole."""
    broker = open_broker(fragile)
    await broker.prepare()
    await live_a_little(broker)
    kill(victim)
    [file] = (victim.data_dir / "appendonlydir").glob("*.incr.aof")
    rng = random.Random(seed)
    with file.open("r+b") as log:
        log.truncate(rng.randrange(file.stat().st_size // 2, file.stat().st_size))
    assert victim.revive()
    assert await broker.inspection.audit() == []
    await broker.close()


async def live_a_little(broker: Broker) -> None:
    """Make transitions of every kind."""
    session = broker.session("w1", "i1")
    await session.register(concurrency=9, version="1", handlers={})
    await session.heartbeat(request=0, active=0)
    streams = [broker.partitions[0].stream("default", n) for n in (3, 2, 1, 0)]
    for number in range(1, 40):
        await submit(broker, "nap", {"padding": "x" * 100})
        fetched = await session.fetch(1, streams=streams, request=number)
        kind = (OutcomeKind.COMPLETE, OutcomeKind.FAIL, OutcomeKind.RELEASE)[number % 3]
        outcomes = [
            Outcome(delivery=one, kind=kind, value=b'"done"', delay_ms=50, max_retries=number % 2)
            for one in fetched.deliveries
        ]
        report = {
            OutcomeKind.COMPLETE: session.complete,
            OutcomeKind.FAIL: session.fail,
            OutcomeKind.RELEASE: session.release,
        }[kind]
        await report(outcomes)


async def test_emptied_under_load(fragile_broker: Broker, fragile: Settings) -> None:
    """After FLUSHALL the workers register again and new work flows at once."""
    async with at_work(fragile, nap, name="w1"), at_work(fragile, nap, name="w2"):
        old = await submit(fragile_broker, "nap", {"seconds": 1.0})
        await reached(fragile_broker, old, TaskState.RUNNING)
        client: Any = fragile_broker.redis
        await client.flushall()
        flushed = time.monotonic()
        await fragile_broker.prepare()
        new = await submit(fragile_broker, "nap")
        assert (await ended(fragile_broker, new)).state is TaskState.COMPLETED
        assert time.monotonic() - flushed < 5

        async def both_are_back() -> bool:
            return len(await fragile_broker.inspection.workers()) == 2

        await until(both_are_back, "both workers' registration")


async def test_restart_without_data(
    victim: EmbeddedBroker, fragile_broker: Broker, fragile: Settings
) -> None:
    """A broker that comes back empty is worked for as if it was new."""
    async with at_work(fragile, nap):
        assert (await ended(fragile_broker, await submit(fragile_broker, "nap"))).deliveries == 1
        kill(victim)
        for file in (victim.data_dir / "appendonlydir").iterdir():
            file.unlink()
        assert victim.revive()
        await fragile_broker.prepare()
        new = await submit(fragile_broker, "nap")
        assert (await ended(fragile_broker, new)).state is TaskState.COMPLETED


async def test_a_broker_that_loads_is_not_judged(
    victim: EmbeddedBroker, fragile: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it reads its file it says that it has none: nobody is warned of that."""
    once = fragile.redis.model_copy(update={"max_retries": 0})
    broker = open_broker(fragile.model_copy(update={"redis": once}))
    await broker.prepare()
    client: Any = broker.redis
    pipeline = client.pipeline(transaction=False)
    for number in range(4000):
        pipeline.set(f"key{number}", "x")
    await pipeline.execute()
    kill(victim)
    monkeypatch.setattr(embedded, "_CONFIG", embedded._CONFIG + "key-load-delay 150\n")
    reviving = asyncio.create_task(asyncio.to_thread(victim.revive))
    refusals: list[str] = []
    with capture_logs() as lines:
        while not reviving.done():
            try:
                await broker.prepare()
            except BrokerUnavailableError as error:
                refusals.append(str(error))
            await asyncio.sleep(0)
    await reviving
    await broker.prepare()
    await broker.close()
    assert any("is loading" in text for text in refusals)
    assert lines == []


async def test_scripts_forgotten_under_load(fragile_broker: Broker, fragile: Settings) -> None:
    """SCRIPT FLUSH again and again is noticed by nobody."""
    client: Any = fragile_broker.redis
    async with at_work(fragile, nap):
        ids = []
        for _ in range(30):
            await client.script_flush()
            ids.append(await submit(fragile_broker, "nap"))
        tasks = [await ended(fragile_broker, task_id) for task_id in ids]
    assert {(task.state, task.deliveries) for task in tasks} == {(TaskState.COMPLETED, 1)}


async def test_connections_killed_all_the_time(fragile_broker: Broker, fragile: Settings) -> None:
    """CLIENT KILL every 200 ms: everything is done once, and nothing counts as lost."""
    client: Any = fragile_broker.redis
    async with at_work(fragile, nap, name="w1"), at_work(fragile, nap, name="w2"):
        ids = []
        for _ in range(15):
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            ids += [await submit(fragile_broker, "nap", {"seconds": 0.05}) for _ in range(4)]
            await asyncio.sleep(0.2)
        tasks = [await ended(fragile_broker, task_id, within_seconds=10) for task_id in ids]
    assert {(task.state, task.lost_leases) for task in tasks} == {(TaskState.COMPLETED, 0)}


async def test_a_stopped_broker_is_a_503_in_time(victim: EmbeddedBroker, fragile: Settings) -> None:
    """The API never hangs: two seconds and a little, then the client is told to come again."""
    async with api(fragile) as http:
        assert (await post(http))[0] == 201
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            for status, seconds in [await post(http) for _ in range(2)]:
                assert status == 503
                assert seconds < 2.5
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        assert (await post(http))[0] == 201


async def test_a_paused_broker_duplicates_nothing(
    fragile_broker: Broker, fragile: Settings
) -> None:
    """Writes that were late, or given up by the API, are one task each at most."""
    client: Any = fragile_broker.redis
    async with api(fragile) as http:
        await client.client_pause(3000, all=False)
        statuses = await asyncio.gather(*(post(http) for _ in range(5)))
        assert {status for status, _ in statuses} == {503}
        await client.execute_command("CLIENT", "UNPAUSE")
        assert (await post(http))[0] == 201
    stats = await fragile_broker.inspection.queue_stats()
    assert 1 <= stats.backlog <= 6


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are set on Linux")
async def test_full_disk(victim: EmbeddedBroker, fragile: Settings) -> None:
    """While the append-only file cannot grow, submissions are refused; then they work again."""
    async with api(fragile) as http:
        assert (await post(http))[0] == 201
        [file] = (victim.data_dir / "appendonlydir").glob("*.incr.aof")
        before = resource.prlimit(victim.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 100, before[1]))

        async def is_refused() -> bool:
            return (await post(http))[0] == 503

        await until(is_refused, "a refusal")
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, before)

        async def is_accepted() -> bool:
            return (await post(http))[0] == 201

        await until(is_accepted, "a submission that is accepted again")


async def test_away_for_longer_than_a_lease_under_load(
    victim: EmbeddedBroker, fragile_broker: Broker, fragile: Settings
) -> None:
    """No mass redelivery, and nothing counts as lost: the workers keep what they were running."""
    async with at_work(fragile, nap, name="w1"), at_work(fragile, nap, name="w2"):
        ids = [await submit(fragile_broker, "nap", {"seconds": 0.5}) for _ in range(20)]
        await reached(fragile_broker, ids[0], TaskState.RUNNING)
        kill(victim)
        await asyncio.sleep(2 * fragile.worker.lease_seconds)
        assert victim.revive()
        tasks = [await ended(fragile_broker, task_id) for task_id in ids]
    assert {(task.state, task.deliveries) for task in tasks} == {(TaskState.COMPLETED, 1)}
    assert "lost" not in await fragile_broker.inspection.stats()
