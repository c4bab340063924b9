"""Recovery: lost leases are taken over, by workers that are sure of themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from crew import Notes, all_streams, backoff, completed, joined, submit, take

from taskqueue_core.broker import Broker, Recovered, WorkerSession
from taskqueue_core.errors import NotFoundError
from taskqueue_core.keys import GROUP, id_from_hex
from taskqueue_core.models import Delivery
from taskqueue_core.worker.fetcher import Fetcher
from taskqueue_core.worker.recovery import INTERVAL_SECONDS, Recovery
from taskqueue_core.worker.slots import Slots

pytestmark = pytest.mark.anyio


class Slow(WorkerSession):
    """A session that is slow to recover."""

    async def recover(self, wanted: int, **rest: Any) -> Recovered:
        """Answer late."""
        recovered = await super().recover(wanted, **rest)
        await asyncio.sleep(0.02)
        return recovered


class Scene:
    """A recovery with its fetcher, and a task whose worker ``w2`` is gone."""

    def __init__(self, broker: Broker, session: WorkerSession, patience: float = 0.0) -> None:
        self.broker = broker
        self.notes = Notes()
        self.fetcher = Fetcher(
            session, self.notes, slots=Slots(4), backoffs=[backoff()], trust_seconds=60
        )
        self.fetcher.is_open, self.fetcher.is_dry = True, True
        self.recovery = Recovery(
            broker, session, self.fetcher, self.notes, lease_seconds=3 * patience
        )

    async def lose(self) -> Delivery:
        """Submit a task, have ``w2`` take it, and let its lease and registration expire."""
        other = await joined(self.broker, self.broker.session("w2", "i2"))
        await submit(self.broker)
        self.fetcher.streams = await all_streams(self.broker)
        [one] = await take(other, self.broker)
        stream = other.keys.stream("default", 1)
        await self.broker.redis.xclaim(stream, GROUP, "w2", 0, [one.entry_id], idle=20_000)
        await self.broker.redis.unlink(other.keys.worker("w2"))
        await self.broker.redis.zadd(other.keys.workers, {"w2": 1})
        return one


async def test_a_lost_task_is_started_and_its_worker_removed(
    broker: Broker, session: WorkerSession
) -> None:
    """The slot it takes is counted, the others are free again."""
    scene = Scene(broker, session)
    lost = await scene.lose()
    scene.recovery.beat_answered()
    assert await scene.recovery.run_once() == INTERVAL_SECONDS
    [found] = scene.notes.started
    assert (found.digits, found.number, found.lost_leases) == (lost.digits, 2, 1)
    assert (lost.is_recovered, found.is_recovered) == (False, True)
    assert scene.fetcher.free == 3
    names = [worker.id for worker in await broker.inspection.workers()]
    assert names == ["w1"]
    with pytest.raises(NotFoundError):
        await broker.inspection.worker("w2")
    assert await session.complete([completed(found)]) == [1]


@pytest.mark.parametrize("reason", ["no beat", "just connected", "outage", "full", "paused"])
async def test_when_nothing_is_taken_over(
    broker: Broker, session: WorkerSession, reason: str
) -> None:
    """Only a worker that the broker knows, that has had time and that has slots may judge."""
    scene = Scene(broker, session, patience=10.0 if reason == "just connected" else 0.0)
    lost = await scene.lose()
    if reason != "no beat":
        scene.recovery.beat_answered()
    if reason == "outage":
        scene.recovery.broker_lost()
    scene.fetcher._slots.free = 0 if reason == "full" else 4
    scene.fetcher.is_paused = reason == "paused"
    # A worker without a free slot waits for one, and then goes on waiting.
    expected = 0.0 if reason == "full" else INTERVAL_SECONDS
    assert await scene.recovery.run_once() == expected
    assert scene.notes.started == []
    task = await broker.inspection.get(id_from_hex(lost.digits))
    assert (task.deliveries, task.worker_id) == (1, "w2")


async def test_the_next_free_slot_is_for_a_lost_task(
    broker: Broker, session: WorkerSession
) -> None:
    """Not for what waits in the queue; and where one was lost there may be more."""
    scene = Scene(broker, session)
    lost = await scene.lose()
    waiting = await submit(broker)
    scene.recovery.beat_answered()
    scene.fetcher._slots.free = 0
    looking = asyncio.create_task(scene.recovery.run_once())
    await asyncio.sleep(0)
    scene.fetcher.is_dry = False
    scene.fetcher._slots.give(1)
    assert await looking == 0.0
    assert scene.notes.ids == [id_from_hex(lost.digits)]
    assert (await broker.inspection.get(waiting)).deliveries == 0


async def test_what_comes_late_is_not_started(broker: Broker, session: WorkerSession) -> None:
    """After a long wait it may be somebody else's: the slots are free, the heartbeat returns it."""
    slow = Slow(session._scripts, session.keys, session.worker_id, session.instance)
    scene = Scene(broker, slow)
    scene.fetcher.trust_seconds = 0.01
    await scene.lose()
    scene.recovery.beat_answered()
    await scene.recovery.run_once()
    assert (scene.notes.started, scene.fetcher.free) == ([], 4)


async def test_slots_come_back_when_the_call_fails(broker: Broker, session: WorkerSession) -> None:
    """Also when it is cancelled."""
    slow = Slow(session._scripts, session.keys, session.worker_id, session.instance)
    scene = Scene(broker, slow)
    scene.recovery.beat_answered()
    call = asyncio.create_task(scene.recovery.run_once())
    await asyncio.sleep(0)
    assert scene.fetcher.free == 0
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert scene.fetcher.free == 4
    await scene.fetcher.drained()
