"""The scheduler: somebody looks when a task is due, and now and then in any case."""

from __future__ import annotations

import asyncio
import time

import pytest
from crew import Notes, backoff, submit

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.states import TaskState
from taskqueue_core.worker import scheduler as module
from taskqueue_core.worker.fetcher import Fetcher
from taskqueue_core.worker.scheduler import Scheduler
from taskqueue_core.worker.slots import Slots

pytestmark = pytest.mark.anyio


class Watched(Fetcher):
    """A fetcher that only counts how often it is woken."""

    def __init__(self, session: WorkerSession, *, can_take: bool) -> None:
        super().__init__(session, Notes(), slots=Slots(1), backoffs=[backoff()], trust_seconds=60)
        self.is_open = can_take
        self.woken_at: list[float] = []

    def wake(self) -> None:
        """Count."""
        self.woken_at.append(time.monotonic())


async def due_in(broker: Broker, milliseconds: int) -> str:
    """Submit a task that is due soon, by the broker's clock."""
    seconds, microseconds = await broker.redis.time()
    now = seconds * 1000 + microseconds // 1000
    return await submit(broker, scheduled_at_ms=now + milliseconds)


async def test_the_fetcher_is_woken_when_a_task_is_due(
    broker: Broker, session: WorkerSession
) -> None:
    """Never before; at most 50 ms after on an idle machine."""
    fetcher = Watched(session, can_take=True)
    scheduler = Scheduler(broker, fetcher, 0)
    due = time.monotonic() + 0.1
    scheduler.next_due(100)
    while not fetcher.woken_at:
        assert await scheduler.run_once() == 0.0
    assert due <= fetcher.woken_at[0] < due + 0.2


async def test_an_earlier_task_shortens_the_sleep(broker: Broker, session: WorkerSession) -> None:
    """News of an earlier task wake the scheduler, which sleeps again, but less long."""
    fetcher = Watched(session, can_take=True)
    scheduler = Scheduler(broker, fetcher, 0)
    scheduler.next_due(60_000)
    sleeping = asyncio.create_task(scheduler.run_once())
    await asyncio.sleep(0)
    scheduler.next_due(20)
    await sleeping
    assert fetcher.woken_at == []
    await scheduler.run_once()
    assert len(fetcher.woken_at) == 1


async def test_a_lost_bell_is_made_up_for(
    broker: Broker, session: WorkerSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without anything due there is a look every few seconds."""
    monkeypatch.setattr(module, "LONGEST_SLEEP_SECONDS", 0.05)
    fetcher = Watched(session, can_take=True)
    await Scheduler(broker, fetcher, 0).run_once()
    assert len(fetcher.woken_at) == 1


async def test_a_busy_worker_promotes_for_the_others(
    broker: Broker, session: WorkerSession
) -> None:
    """Without a free slot the task goes to its queue; the next one is noted."""
    fetcher = Watched(session, can_take=False)
    scheduler = Scheduler(broker, fetcher, 0)
    first, second = await due_in(broker, 30), await due_in(broker, 90)
    scheduler.next_due(30)
    await scheduler.run_once()
    states = [(await broker.inspection.get(one)).state for one in (first, second)]
    assert states == [TaskState.PENDING, TaskState.SCHEDULED]
    while (await broker.inspection.get(second)).state is TaskState.SCHEDULED:
        await scheduler.run_once()
    assert fetcher.woken_at == []
