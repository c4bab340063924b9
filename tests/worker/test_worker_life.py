"""Whole workers in this process: pause, shutdown, a flushed broker, names, hangs."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from crew import at_work, ended, eventually, reached, submit
from script import Script, quick_settings, run, with_worker
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker
from taskqueue_core.errors import SettingsError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.plugin import PluginHost, TaskContext, handler
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_core.states import TaskState
from taskqueue_core.worker import Worker

pytestmark = pytest.mark.anyio

COMPLETED = TaskState.COMPLETED


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    return quick_settings(redis_url, namespace)


@pytest.fixture
def script() -> Script:
    return Script()


async def test_a_paused_worker_takes_nothing_until_it_is_resumed(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """What runs is finished; resuming takes effect at once, and each change is said once."""
    with capture_logs() as lines:
        async with at_work(settings, script.handler) as worker:
            running = await submit(broker, "script", payload={"do": "wait"})
            await eventually(lambda: script.contexts, "the first task")
            await broker.pause("w1")
            await eventually(lambda: worker._sections[0].fetcher.is_paused, "the pause")
            waiting = await submit(broker, "script")
            script.go.set()
            assert (await ended(broker, running)).state is COMPLETED
            await asyncio.sleep(0.7)
            assert (await broker.inspection.get(waiting)).state is TaskState.PENDING
            began = time.monotonic()
            await broker.resume("w1")
            assert (await ended(broker, waiting)).state is COMPLETED
            assert time.monotonic() - began < 1
    said = [line["event"] for line in lines if line["event"].startswith("worker ")]
    assert said == ["worker started", "worker paused", "worker resumed", "worker stopped"]


async def test_shutdown_finishes_what_runs(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """A task that ends within the timeout is completed, and the worker leaves."""
    async with at_work(settings, script.handler) as worker:
        task_id = await submit(broker, "script", payload={"do": "wait"})
        await eventually(lambda: script.contexts, "the task")
        worker.stop()
        late = await submit(broker, "script")
        await asyncio.sleep(0.1)
        script.go.set()
        assert (await ended(broker, task_id)).state is COMPLETED
    assert (await broker.inspection.get(late)).state is TaskState.PENDING
    assert await broker.inspection.workers() == []


@pytest.mark.parametrize("signals", [1, 2])
async def test_shutdown_gives_back_what_does_not_end(
    broker: Broker, settings: Settings, script: Script, signals: int
) -> None:
    """At once, without burning an attempt or losing a lease; a second signal does not wait."""
    timeout = 0.1 if signals == 1 else 60.0
    settings = with_worker(settings, shutdown_timeout_seconds=timeout)
    async with at_work(settings, script.handler) as worker:
        task_id = await submit(broker, "script", payload={"do": "wait"})
        await eventually(lambda: script.contexts, "the task")
        for _ in range(signals):
            worker.stop()
    task = await broker.inspection.get(task_id)
    assert (task.state, task.attempts, task.lost_leases) == (TaskState.PENDING, 0, 0)
    assert script.contexts[0].cancel_reason == "the worker is stopping"
    assert await broker.inspection.workers() == []


async def test_what_arrives_during_shutdown_goes_straight_back(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """Tasks in an answer that comes after the signal are not started, nor left to their lease."""
    async with at_work(settings, script.handler) as worker:
        await eventually(worker._sections[0].fetcher.went_dry.is_set, "an idle worker")
        fetch = worker._sections[0].session.fetch

        async def fetch_and_stop(wanted: int, **rest: Any) -> Any:
            fetched = await fetch(wanted, **rest)
            if fetched.deliveries:
                worker.stop()
                await asyncio.sleep(0.2)
            return fetched

        worker._sections[0].session.fetch = fetch_and_stop  # type: ignore[method-assign]
        task_id = await submit(broker, "script")
        await eventually(worker._stopping.is_set, "the stop")
    task = await broker.inspection.get(task_id)
    assert (task.state, task.attempts, script.contexts) == (TaskState.PENDING, 0, [])


async def test_a_flushed_broker_is_worked_for_again(
    rough_broker: Broker, settings: Settings, script: Script
) -> None:
    """Everything is gone, registration included: running handlers stop, new tasks are run."""
    async with at_work(settings, script.handler) as worker:
        await submit(rough_broker, "script", payload={"do": "wait"})
        await eventually(lambda: script.contexts, "the task")
        prefix = rough_broker.partitions[0].prefix
        async for key in rough_broker.redis.scan_iter(prefix + "*", count=1000):
            await rough_broker.redis.unlink(key)
        began = time.monotonic()
        assert (await run(rough_broker)).state is COMPLETED
        assert time.monotonic() - began < 5
        await eventually(lambda: script.contexts[0].cancelled, "the end of what is lost")
        await eventually(lambda: not worker._executor.active(), "free slots")
    assert await rough_broker.inspection.audit() == []


async def test_only_the_named_queues_are_worked_for(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """Others stay untouched, also queues that come later; named ones may be new."""
    async with at_work(with_worker(settings, queues=("mail",)), script.handler):
        other = await submit(broker, "script", queue="other")
        assert (await run(broker, queue="mail")).state is COMPLETED
        assert (await broker.inspection.get(other)).state is TaskState.PENDING


async def test_misrouted_tasks_wait_for_their_worker(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """A worker without the handler puts a task aside; attempts stay; another one runs it."""

    @handler("other")
    async def other(ctx: TaskContext, payload: dict[str, Any]) -> int:
        return ctx.attempt

    async with at_work(settings, script.handler):
        task_id = await submit(broker, "other")
        await reached(broker, task_id, TaskState.SCHEDULED)
        async with at_work(settings, other, worker_id="w2"):
            task = await ended(broker, task_id, within_seconds=10)
    assert (task.state, task.attempts, task.worker_id) == (COMPLETED, 1, "w2")
    assert (await broker.inspection.stats())["misrouted"] >= 1


async def test_a_name_that_is_taken_ends_the_worker(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """At the start, and later when another took it while this one was away; nothing is lost."""
    settings = with_worker(settings, heartbeat_interval_seconds=0.1, lease_seconds=0.3)
    worker = Worker(settings, PluginHost.of(script.handler), worker_id="w1", rng=random.Random(1))
    running = asyncio.create_task(worker.run())
    await eventually(lambda: worker._sections[0].fetcher.is_open, "the worker's start")
    task_id = await submit(broker, "script", payload={"do": "wait"})
    await eventually(lambda: script.contexts, "the task")
    key = broker.partitions[0].worker("w1")
    await broker.redis.hset(key, "instance", "another")
    await broker.redis.persist(key)
    await eventually(worker._stopping.is_set, "the end of waiting", within_seconds=10)
    script.go.set()
    with pytest.raises(SettingsError, match="belongs to another live worker"):
        await running
    assert (await broker.inspection.get(task_id)).state is COMPLETED
    starting = Worker(settings, PluginHost.of(script.handler), worker_id="w1", rng=random.Random(2))
    with pytest.raises(SettingsError):
        await starting.run()


async def test_a_worker_that_never_reached_its_broker_can_be_stopped(script: Script) -> None:
    """It says so a few times, and ends at once when told to."""
    settings = Settings(redis=RedisSettings(url="unix:///nonexistent/socket"))
    worker = Worker(settings, PluginHost.of(script.handler), worker_id="w1", rng=random.Random(1))
    with capture_logs() as lines:
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.5)
        worker.stop()
        assert await asyncio.wait_for(running, 10) == 0
    assert 1 <= len(lines) <= 5


async def test_a_handler_that_hangs_the_loop_is_reported_from_outside(
    broker: Broker, settings: Settings
) -> None:
    """The heartbeat's thread notices; the loop itself cannot."""
    hangs: list[float] = []

    @handler("hang", timeout=1)
    async def hang(ctx: TaskContext, payload: dict[str, Any]) -> None:
        worker._executor.running[id_to_hex(ctx.id), 1].given_up_at = time.monotonic() + 0.2
        while not hangs:
            time.sleep(0.01)  # noqa: ASYNC251 (a handler that hangs)

    worker = Worker(
        settings,
        PluginHost.of(hang),
        worker_id="w1",
        rng=random.Random(1),
        on_hang=lambda: hangs.append(time.monotonic()),
    )
    running = asyncio.create_task(worker.run())
    task_id = await submit(broker, "hang")
    assert (await ended(broker, task_id)).state is COMPLETED
    assert hangs
    worker.stop()
    assert await running == 0
