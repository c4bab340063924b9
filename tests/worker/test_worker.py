"""Whole workers in this process: tasks in, outcomes out, in order and on time."""

from __future__ import annotations

import asyncio
import time

import pytest
from crew import at_work, ended, eventually, submit
from script import Script, quick_settings, run, with_worker

from taskqueue_core.broker import Broker
from taskqueue_core.models import Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

COMPLETED, DEAD, FAILED = TaskState.COMPLETED, TaskState.DEAD_LETTER, TaskState.FAILED


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    return quick_settings(redis_url, namespace)


@pytest.fixture
def script() -> Script:
    return Script()


async def test_tasks_run_by_priority(broker: Broker, settings: Settings, script: Script) -> None:
    """Critical first, low last; in the order of submission within a priority."""
    order = [Priority.LOW, Priority.CRITICAL, Priority.NORMAL, Priority.HIGH, Priority.CRITICAL]
    ids = [await submit(broker, "script", priority=priority) for priority in order]
    async with at_work(with_worker(settings, concurrency=1), script.handler):
        for task_id in ids:
            assert (await ended(broker, task_id)).state is COMPLETED
    assert script.ids == [ids[at] for at in (1, 4, 3, 2, 0)]


async def test_what_the_handler_is_told(broker: Broker, settings: Settings, script: Script) -> None:
    """Metadata, attempts, limits, queue and fence reach the handler's context."""
    async with at_work(settings, script.handler):
        task = await run(
            broker, metadata=b'{"tenant":"a"}', max_retries=7, timeout_seconds=9, queue="mail"
        )
    [ctx] = script.contexts
    assert (ctx.id, ctx.type, ctx.queue, ctx.priority) == (task.id, "script", "mail", 1)
    assert (ctx.attempt, ctx.max_retries, ctx.fence) == (1, 7, "1")
    assert dict(ctx.metadata) == {"tenant": "a"}
    assert 0 < ctx.deadline - time.monotonic() < 9
    assert (task.result, task.worker_id) == (b"1", "w1")


async def test_an_idle_worker_starts_a_task_at_once(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """The bell is heard: also of a queue that was not there before, and far below the 4 s look."""
    async with at_work(settings, script.handler) as worker:
        for queue in ("default", "default", "new"):
            await eventually(worker._sections[0].fetcher.went_dry.is_set, "an idle worker")
            began = time.monotonic()
            await run(broker, queue=queue)
            assert time.monotonic() - began < 1


async def test_a_new_queue_is_found_without_its_bell(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """Its bell wakes one worker; the others know soon, before any lease of its tasks runs out."""
    async with at_work(settings, script.handler) as worker:
        await eventually(worker._sections[0].fetcher.went_dry.is_set, "an idle worker")
        worker._sections[0].bell._is_choosy = True
        worker._sections[0].bell.serve(["another"])
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await run(broker, queue="new")
        assert time.monotonic() - began < 2


async def test_what_is_misrouted_during_shutdown_is_put_aside(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """The worker waits for the answer to who handles it, and reports."""
    async with at_work(settings, script.handler) as worker:
        read = worker._misrouted._read

        async def read_slowly() -> dict[str, list[str]]:
            worker.stop()
            await asyncio.sleep(0.3)
            return await read()

        worker._misrouted._read = read_slowly  # type: ignore[method-assign]
        task_id = await submit(broker, "other")
        await eventually(worker._stopping.is_set, "the stop")
    assert (await broker.inspection.get(task_id)).state is TaskState.SCHEDULED


async def test_scheduled_tasks_start_on_time(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """Never early by the broker's clock; the best of three late by less than 50 ms."""
    async with at_work(settings, script.handler):
        late: list[float] = []
        for _ in range(3):
            due = round(time.time() * 1000) + 150
            task = await run(broker, scheduled_at_ms=due)
            assert task.started_at_ms is not None
            late.append(task.started_at_ms - due)
    assert min(late) >= 0
    assert min(late) < 50


async def test_failures_are_retried_with_growing_waits(
    broker: Broker, settings: Settings, script: Script
) -> None:
    """Out of retries the task is a dead letter, with the last error."""
    async with at_work(settings, script.handler):
        task = await run(broker, "fail", max_retries=2)
    assert (task.state, task.attempts, task.error) == (DEAD, 3, "ValueError: broken")
    assert task.reason == "max_retries"
    first, second, third = script.started_at
    assert second - first >= 0.05
    assert third - second >= 0.1
    assert [ctx.attempt for ctx in script.contexts] == [1, 2, 3]


@pytest.mark.parametrize(
    ("action", "state", "attempts", "error"),
    [
        ("give up", DEAD, 1, "hopeless"),
        ("drop", FAILED, 1, "pointless"),
        ("retry", COMPLETED, 2, ""),
    ],
)
async def test_handlers_steer(
    broker: Broker,
    settings: Settings,
    script: Script,
    action: str,
    state: TaskState,
    attempts: int,
    error: str,
) -> None:
    """What a handler raises on purpose decides; a delay it asked for is kept."""
    async with at_work(settings, script.handler):
        task = await run(broker, action)
    assert (task.state, task.attempts, task.error) == (state, attempts, error)
    if action == "retry":
        assert script.started_at[1] - script.started_at[0] >= 0.2
