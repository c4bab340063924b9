"""Many at once, and stopped in the middle: each task is promoted, run and redriven once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

import pytest
from staff import at_work, bury_all, ended, submit, until

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.broker.clients import server_time_ms
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.errors import StateConflictError
from taskqueue_core.keys import new_task_id
from taskqueue_core.models import NewTask, Priority
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


class Counted:
    """A handler that counts its runs."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.order: list[int] = []

    @property
    def handler(self) -> object:
        """Return the handler ``count``."""

        @handler("count", timeout=60)
        async def count(ctx: TaskContext, payload: dict[str, Any]) -> None:
            self.runs[ctx.id] += 1
            self.order.append(ctx.priority)
            await asyncio.sleep(payload.get("seconds", 0))

        return count


async def test_many_schedulers_promote_each_task_once(
    fragile_broker: Broker, fragile: Settings
) -> None:
    """Three workers, and 500 tasks that are due at the same moment."""
    counted = Counted()
    due = await server_time_ms(fragile_broker.redis) + 1500
    tasks = [
        NewTask(id=fragile_broker.new_task_id(), type="count", scheduled_at_ms=due)
        for _ in range(500)
    ]
    await fragile_broker.submit_many(tasks)
    one, two, three = (counted.handler for _ in range(3))
    async with (
        at_work(fragile, one, name="w1"),
        at_work(fragile, two, name="w2"),
        at_work(fragile, three, name="w3"),
    ):
        found = [await ended(fragile_broker, task.id, within_seconds=30) for task in tasks]
    assert set(counted.runs.values()) == {1}
    assert len(counted.runs) == 500
    assert {task.deliveries for task in found} == {1}
    assert all(due <= (task.started_at_ms or 0) < due + 5000 for task in found)


@pytest.mark.parametrize("partitions", [1, 6])
async def test_a_lost_task_does_not_wait_for_the_backlog(
    victim: EmbeddedBroker, fragile: Settings, partitions: int
) -> None:
    """A worker that never has a free slot takes it over all the same, in every partition."""
    queue = fragile.queue.model_copy(update={"partitions": partitions})
    settings = fragile.model_copy(update={"queue": queue})
    broker = open_broker(settings)
    await broker.prepare()
    lost = [await lose(broker, number) for number in range(partitions)]
    tasks = [
        NewTask(id=broker.new_task_id(), type="count", payload=b'{"seconds":0.05}')
        for _ in range(1000)
    ]
    await broker.submit_many(tasks)
    began = asyncio.get_running_loop().time()
    async with at_work(settings, Counted().handler):
        for task_id in lost:
            await ended(broker, task_id, within_seconds=20)
        assert asyncio.get_running_loop().time() - began < 8
        assert (await broker.inspection.queue_stats()).backlog > 500
        for task in tasks:
            with contextlib.suppress(StateConflictError):
                await broker.cancel(task.id)
    assert await broker.inspection.audit() == []
    await broker.close()


async def lose(broker: Broker, partition: int) -> str:
    """Have a worker take a task of a partition that never comes back; the task's id."""
    task = NewTask(id=new_task_id(partition), type="count")
    session = broker.session("ghost", "i0", partition)
    await session.register(concurrency=1, version="1", handlers={})
    await session.heartbeat(request=0, active=0)
    await broker.submit(task)
    streams = [broker.partitions[partition].stream("default", 1)]
    assert (await session.fetch(1, streams=streams, request=1)).deliveries
    return task.id


async def test_cancel_races_with_everything(fragile_broker: Broker, fragile: Settings) -> None:
    """One wins: a task that was cancelled never runs, one that was not is completed."""
    counted = Counted()
    rng = random.Random(1)
    now = await server_time_ms(fragile_broker.redis)
    cancelled: set[str] = set()

    async def one(task_id: str) -> None:
        await asyncio.sleep(rng.random() * 0.3)
        try:
            await fragile_broker.cancel(task_id)
        except StateConflictError:
            return
        cancelled.add(task_id)

    async with at_work(fragile, counted.handler):
        ids = [
            await submit(
                fragile_broker,
                "count",
                {"seconds": 0.005},
                scheduled_at_ms=now + rng.randrange(400) if rng.random() < 0.5 else None,
            )
            for _ in range(150)
        ]
        await asyncio.gather(*map(one, ids))
        tasks = [await ended(fragile_broker, task_id) for task_id in ids]
    for task in tasks:
        wanted = TaskState.CANCELLED if task.id in cancelled else TaskState.COMPLETED
        assert (task.state, counted.runs[task.id]) == (wanted, int(task.id not in cancelled))
    assert cancelled


async def test_redrive_that_is_killed_goes_on(fragile_broker: Broker, fragile: Settings) -> None:
    """A thousand dead letters, the redrive broken off in the middle, and again: each once."""
    tasks = [NewTask(id=fragile_broker.new_task_id(), type="count") for _ in range(1000)]
    await fragile_broker.submit_many(tasks)
    await bury_all(fragile_broker, len(tasks))
    redriving = asyncio.create_task(fragile_broker.redrive())

    async def has_begun() -> bool:
        return (await fragile_broker.inspection.queue_stats()).dead_letter_count < 1000

    await until(has_begun, "the redrive's first step")
    redriving.cancel()
    await asyncio.gather(redriving, return_exceptions=True)
    await fragile_broker.redrive()
    counts = await fragile_broker.inspection.queue_stats()
    assert (counts.dead_letter_count, counts.backlog) == (0, 1000)
    counted = Counted()
    async with at_work(fragile, counted.handler):
        for task in tasks:
            await ended(fragile_broker, task.id, within_seconds=30)
    assert set(counted.runs.values()) == {1}


async def test_purge_while_submitting_and_running(
    fragile_broker: Broker, fragile: Settings
) -> None:
    """What waited is cancelled; what runs, or comes later, is completed; nothing is orphaned."""
    counted = Counted()
    ids: list[str] = []

    async def feed() -> None:
        for _ in range(200):
            task_id = await submit(fragile_broker, "count", {"seconds": 0.01})
            ids.append(task_id)

    async with at_work(fragile, counted.handler):
        feeding = asyncio.create_task(feed())
        for _ in range(5):
            await asyncio.sleep(0.03)
            await fragile_broker.purge(Priority.NORMAL)
        await feeding
        tasks = [await ended(fragile_broker, task_id, within_seconds=30) for task_id in ids]
    assert {task.state for task in tasks} == {TaskState.COMPLETED, TaskState.CANCELLED}
    for task in tasks:
        assert counted.runs[task.id] == int(task.state is TaskState.COMPLETED)


async def test_one_id_submitted_fifty_times_at_once(fragile_broker: Broker) -> None:
    """One task, and the same answer for all of them."""
    task = NewTask(id=fragile_broker.new_task_id(), type="count")
    answers = await asyncio.gather(*(fragile_broker.submit(task) for _ in range(50)))
    assert len({(one.id, one.created_at_ms) for one in answers}) == 1
    assert (await fragile_broker.inspection.queue_stats()).backlog == 1


async def test_priorities_under_load(fragile_broker: Broker, fragile: Settings) -> None:
    """With everything waiting, the higher priority runs first, without exception."""
    counted = Counted()
    rng = random.Random(2)
    priorities = [Priority(rng.randrange(4)) for _ in range(120)]
    ids = [await submit(fragile_broker, "count", priority=one) for one in priorities]
    alone = fragile.worker.model_copy(update={"concurrency": 1})
    async with at_work(fragile.model_copy(update={"worker": alone}), counted.handler):
        for task_id in ids:
            await ended(fragile_broker, task_id)
    assert counted.order == sorted(map(int, priorities), reverse=True)
