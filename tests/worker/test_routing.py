"""Misrouted tasks: put aside, never tossed back, and never kept."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from crew import at_work, delivery, ended, reached, submit
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, Inspection
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import HandlerInfo, Outcome, OutcomeKind, WorkerState
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_core.worker.outcomes import HOLD_MS
from taskqueue_core.worker.routing import Misrouted

pytestmark = pytest.mark.anyio


class Counting(Inspection):
    """A read side that counts how often it is asked, and may be away."""

    def __init__(self, like: Inspection, *, is_away: bool = False) -> None:
        super().__init__(like._redis, like._scripts, like._partitions)
        self.asked = 0
        self.is_away = is_away

    async def workers(self) -> list[WorkerState]:
        """Count, then answer."""
        self.asked += 1
        if self.is_away:
            raise BrokerUnavailableError("away")
        return await super().workers()


def misrouted_of(inspection: Inspection) -> tuple[Misrouted, list[Outcome]]:
    reported: list[Outcome] = []
    misrouted = Misrouted(
        inspection,
        "w1",
        give_up_seconds=60,
        report=reported.append,
        throttle=Throttle(1, time.monotonic),
    )
    return misrouted, reported


async def join(broker: Broker, worker_id: str, *types: str) -> None:
    session = broker.session(worker_id, "i")
    handlers = {name: HandlerInfo() for name in types}
    await session.register(concurrency=1, version="1", handlers=handlers)


@pytest.mark.parametrize("task_type", ["mail", "unknown"])
async def test_a_misrouted_task_is_held(broker: Broker, task_type: str) -> None:
    """At once; the log names the workers that handle its type."""
    await join(broker, "w2", "mail")
    misrouted, reported = misrouted_of(broker.inspection)
    one = delivery(task_type)
    with capture_logs() as lines:
        misrouted.take(one)
        [outcome] = reported
        await misrouted.logged()
    assert (outcome.kind, outcome.delivery, outcome.delay_ms) == (OutcomeKind.HOLD, one, HOLD_MS)
    expected = ["w2"] if task_type == "mail" else "no live worker"
    assert [(line["task_type"], line["handled_by"]) for line in lines] == [(task_type, expected)]


async def test_many_log_once(broker: Broker) -> None:
    """A hundred tasks of a type are one line, and a hundred types are read once."""
    inspection = Counting(broker.inspection)
    misrouted, reported = misrouted_of(inspection)
    with capture_logs() as lines:
        for number in range(100):
            misrouted.take(delivery("other", number))
            misrouted.take(delivery(f"other-{number}", number))
        await misrouted.logged()
    assert (len(reported), inspection.asked, len(lines)) == (200, 1, 101)


async def test_it_is_held_without_an_answer_too(broker: Broker) -> None:
    """An outage, or a worker whose handlers cannot be read, costs the names, nothing else."""
    await join(broker, "w2", "other")
    await broker.redis.hset(broker.partitions[0].worker("w2"), "handlers", b"\xff{")
    for inspection in (Counting(broker.inspection, is_away=True), broker.inspection):
        misrouted, reported = misrouted_of(inspection)
        with capture_logs() as lines:
            misrouted.take(delivery("other"))
            assert [outcome.kind for outcome in reported] == [OutcomeKind.HOLD]
            await misrouted.logged()
        assert lines[-1]["handled_by"] == "no live worker"


def worker_of(name: str, calls: list[str], *types: str) -> list[object]:
    """Return handlers that note who ran them."""

    def make(task_type: str) -> object:
        @handler(task_type)
        async def run(ctx: TaskContext, payload: dict[str, Any]) -> None:
            calls.append(f"{name} {task_type}")

        return run

    return [make(task_type) for task_type in types]


async def test_the_right_worker_is_called(broker: Broker, settings: Settings) -> None:
    """However many idle workers have no handler: a task is wrong once at most, and never waits for
    its next look."""
    calls: list[str] = []
    async with AsyncExitStack() as stack:
        for name, types in (("w1", ["a"]), ("w2", ["a"]), ("w3", ["a", "b"])):
            handlers = worker_of(name, calls, *types)
            await stack.enter_async_context(at_work(settings, *handlers, worker_id=name))
        for number in range(1, 21):
            task = await ended(broker, await submit(broker, "b"), within_seconds=1)
            assert (task.state, task.attempts) == (TaskState.COMPLETED, 1)
            assert calls == ["w3 b"] * number
            assert task.deliveries <= 2
        assert not await broker.redis.exists(broker.partitions[0].held_types)


async def test_a_worker_with_the_handler_joins(broker: Broker, settings: Settings) -> None:
    """What had to wait for it is done at once, long before its next look."""
    calls: list[str] = []
    async with at_work(settings, *worker_of("w1", calls, "a")):
        task_id = await submit(broker, "b")
        await reached(broker, task_id, TaskState.SCHEDULED)
        async with at_work(settings, *worker_of("w2", calls, "b"), worker_id="w2"):
            assert (await ended(broker, task_id)).worker_id == "w2"


async def test_a_busy_worker_finds_what_was_put_aside(broker: Broker, settings: Settings) -> None:
    """Called while it had no slot, it takes the task as soon as it has one."""
    one_slot = settings.worker.model_copy(update={"concurrency": 1})
    busy, is_over = asyncio.Event(), asyncio.Event()

    @handler("long")
    async def long(ctx: TaskContext, payload: dict[str, Any]) -> None:
        busy.set()
        await is_over.wait()

    right = [long, *worker_of("w1", [], "b")]
    narrow = settings.model_copy(update={"worker": one_slot})
    async with at_work(narrow, *right):
        await submit(broker, "long")
        await asyncio.wait_for(busy.wait(), 5)
        async with at_work(settings, *worker_of("w2", [], "a"), worker_id="w2"):
            waiting = await submit(broker, "b")
            await reached(broker, waiting, TaskState.SCHEDULED)
            is_over.set()
            task = await ended(broker, waiting, within_seconds=1)
    assert (task.worker_id, task.deliveries) == ("w1", 2)
