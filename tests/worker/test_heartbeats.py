"""The heartbeat: leases, counters, forgotten tasks, and a thread that nothing holds up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from crew import (
    Crew,
    all_streams,
    backoff,
    completed,
    eventually,
    fields,
    joined,
    new,
    submit,
    take,
)

from taskqueue_core.broker import Beat, Broker, WorkerSession
from taskqueue_core.errors import BrokerError, BrokerUnavailableError
from taskqueue_core.keys import GROUP, id_from_hex, id_to_hex
from taskqueue_core.models import Delivery
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings
from taskqueue_core.states import TaskState
from taskqueue_core.worker.heartbeat import Answer, Heartbeat, HeartbeatCalls, HeartbeatThread

pytestmark = pytest.mark.anyio


@dataclass
class Heard:
    """What a heartbeat told its worker."""

    beats: list[Answer] = field(default_factory=list)
    lost: list[Delivery] = field(default_factory=list)
    cancelled: list[Delivery] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    hangs: int = 0

    def _hung(self) -> None:
        self.hangs += 1

    def calls(self) -> HeartbeatCalls:
        """Return the calls that note."""
        return HeartbeatCalls(
            beat=self.beats.append,
            lost=self.lost.extend,
            cancelled=self.cancelled.extend,
            failed=self.failures.append,
            hung=self._hung,
        )


class Lossy(WorkerSession):
    """A session that loses the answers to its first heartbeats."""

    def __init__(self, like: WorkerSession, losses: int) -> None:
        super().__init__(like._scripts, like.keys, like.worker_id, like.instance)
        self.losses = losses

    async def heartbeat(self, **rest: Any) -> Beat:
        """Send it; answer, or not."""
        beat = await super().heartbeat(**rest)
        if self.losses:
            self.losses -= 1
            raise BrokerUnavailableError("the answer was lost")
        return beat


@handler("slow", timeout=60)
async def slow(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Wait to be cancelled."""
    await asyncio.Event().wait()


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with an interval of 100 ms and a lease of 600 ms."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(namespace=namespace, default_timeout_seconds=0.05),
        worker=WorkerSettings(concurrency=200, heartbeat_interval_seconds=0.1, lease_seconds=0.6),
    )


@pytest.fixture
def crew(settings: Settings) -> Crew:
    return Crew(settings, slow)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def heartbeat_of(settings: Settings, crew: Crew, heard: Heard) -> Heartbeat:
    return Heartbeat(
        settings, crew.executor, crew.measurements, types=["slow"], calls=heard.calls()
    )


async def leases(broker: Broker) -> dict[str, int]:
    """Return the age in ms of every lease, by entry id."""
    stream = broker.partitions[0].stream("default", 1)
    rows = await broker.redis.xpending_range(stream, GROUP, "-", "+", 1000)
    return {row["message_id"].decode(): row["time_since_delivered"] for row in rows}


async def test_every_lease_is_renewed(
    broker: Broker, session: WorkerSession, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """Also of more tasks than one call can name."""
    # In one call: the registration must not expire before the beat.
    await broker.submit_many([new(broker, "slow") for _ in range(150)])
    for one in [*await take(session, broker, 100), *await take(session, broker, 100)]:
        crew.executor.start(one)
    await asyncio.sleep(0.3)
    assert min((await leases(broker)).values()) >= 300
    heartbeat = heartbeat_of(settings, crew, heard)
    assert await heartbeat.run_once(session) == 0.1
    ages = (await leases(broker)).values()
    assert (len(ages), max(ages) < 300) == (150, True)
    assert (heard.lost, heard.beats[-1].beat.is_known) == ([], True)
    await finish(session, crew)


async def test_requests_to_stop_are_told(
    broker: Broker, session: WorkerSession, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """With every beat, also of more tasks than one call can name: a message may be lost."""
    await broker.submit_many([new(broker, "slow") for _ in range(101)])
    held = [*await take(session, broker, 100), *await take(session, broker, 1)]
    for one in held:
        crew.executor.start(one)
    for one in (held[0], held[-1]):
        assert not await broker.cancel(id_from_hex(one.digits), running=True)
    heartbeat = heartbeat_of(settings, crew, heard)
    for _ in range(2):
        await heartbeat.run_once(session)
    assert heard.cancelled == [held[0], held[-1]] * 2
    assert heard.lost == []
    await finish(session, crew)


async def finish(session: WorkerSession, crew: Crew) -> None:
    """Give everything back."""
    crew.executor.release_all()
    for at in range(0, len(crew.outcomes), 100):
        await session.release(crew.outcomes[at : at + 100])
    await crew.executor.stopped(1)


async def test_lost_leases_are_told(
    broker: Broker, session: WorkerSession, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """What was given to another worker is not this one's any more."""
    await submit(broker, "slow")
    [one] = await take(session, broker)
    crew.executor.start(one)
    await session.complete([completed(one)])
    await heartbeat_of(settings, crew, heard).run_once(session)
    assert heard.lost == [one]


@pytest.mark.parametrize("losses", [0, 3])
async def test_counters_are_added_once(
    broker: Broker,
    session: WorkerSession,
    settings: Settings,
    crew: Crew,
    heard: Heard,
    losses: int,
) -> None:
    """A call is repeated with the counters it had; those that came meanwhile go with the next."""
    heartbeat, lossy = heartbeat_of(settings, crew, heard), Lossy(session, losses)
    crew.measurements.ran("slow", 7, is_completed=True)
    for _ in range(losses):
        with pytest.raises(BrokerUnavailableError):
            await heartbeat.run_once(lossy)
        crew.measurements.ran("slow", 7, is_completed=True)
    await heartbeat.run_once(lossy)
    await heartbeat.run_once(lossy)
    assert (await broker.inspection.stats())["duration_ms:slow"] == 7 * (losses + 1)
    assert len(heard.failures) == losses


async def test_counters_wait_for_the_registration(
    broker: Broker, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """A broker that does not know the worker does not count for it either."""
    heartbeat, session = heartbeat_of(settings, crew, heard), broker.session("w1", "i1")
    crew.measurements.ran("slow", 7, is_completed=True)
    await heartbeat.run_once(session)
    assert not heard.beats[-1].beat.is_known
    await joined(broker, session)
    await heartbeat.run_once(session)
    assert (await broker.inspection.stats())["duration_ms:slow"] == 7


async def test_forgotten_tasks_go_back(
    broker: Broker, session: WorkerSession, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """What came in an answer that was never seen is given back after two intervals, uncounted."""
    task_id = await submit(broker, "slow")
    await take(session, broker)
    heartbeat = heartbeat_of(settings, crew, heard)
    heartbeat.streams = await all_streams(broker)
    await heartbeat.run_once(session)
    assert (await broker.inspection.get(task_id)).state is TaskState.RUNNING
    await asyncio.sleep(0.21)
    await heartbeat.run_once(session)
    task = await broker.inspection.get(task_id)
    assert (task.state, task.attempts, task.lost_leases) == (TaskState.PENDING, 0, 0)


async def test_a_hung_task_is_not_taken_for_forgotten(
    broker: Broker, session: WorkerSession, settings: Settings, heard: Heard
) -> None:
    """Its lease must run out and count, or it would hang one worker after the other."""
    crew = Crew(settings, slow, grace_seconds=0.0)
    task_id = await submit(broker, "slow", timeout_seconds=1)
    [one] = await take(session, broker)
    crew.executor.start(one)
    running = crew.executor.running[one.digits, 1]
    running.given_up_at = time.monotonic()
    heartbeat = heartbeat_of(settings, crew, heard)
    heartbeat.streams = await all_streams(broker)
    await heartbeat.run_once(session)
    assert heard.hangs == 0
    await asyncio.sleep(0.25)
    await heartbeat.run_once(session)
    assert heard.hangs == 1
    assert (await broker.inspection.get(task_id)).state is TaskState.RUNNING
    assert min((await leases(broker)).values()) >= 250
    await finish(session, crew)


async def test_one_broken_task_costs_no_lease(
    rough_broker: Broker, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """When looking for forgotten tasks fails, the leases are renewed all the same."""
    session = await joined(rough_broker)
    ids = [await submit(rough_broker, "slow") for _ in range(2)]
    forgotten, one = await take(session, rough_broker, 2)
    crew.executor.start(one)
    await rough_broker.redis.hset(session.keys.task(id_to_hex(ids[0])), "a", "no number")
    heartbeat = heartbeat_of(settings, crew, heard)
    heartbeat.streams = await all_streams(rough_broker)
    await asyncio.sleep(0.22)
    await heartbeat.run_once(session)
    ages = await leases(rough_broker)
    assert ages[one.entry_id] < 200 < ages[forgotten.entry_id]
    assert [type(error) for error in heard.failures] == [BrokerError]
    crew.executor.release_all()
    await crew.executor.stopped(1)


async def test_the_thread_goes_on_while_the_loop_stands_still(
    broker: Broker, session: WorkerSession, settings: Settings, crew: Crew, heard: Heard
) -> None:
    """A handler that blocks the event loop for two leases loses none of them."""
    task_id = await submit(broker, "slow")
    [one] = await take(session, broker)
    crew.executor.start(one)
    thread = HeartbeatThread(
        settings,
        [heartbeat_of(settings, crew, heard)],
        lambda own, _: own.session("w1", "i1"),
        [backoff()],
    )
    thread.start()
    time.sleep(1.3)  # noqa: ASYNC251 (the handler that blocks)
    assert max((await leases(broker)).values()) < 600
    assert (await fields(broker, task_id))["f"] == "1:i1"
    assert (heard.lost, len(heard.beats) >= 3) == ([], True)
    began = time.monotonic()
    await thread.stop()
    assert time.monotonic() - began < 1
    await finish(session, crew)


async def test_the_thread_ends_in_the_middle_of_a_call(
    settings: Settings, crew: Crew, heard: Heard
) -> None:
    """Also when no broker answers: an address that nobody listens on."""
    away = settings.model_copy(update={"redis": RedisSettings(url="unix:///nonexistent/socket")})
    thread = HeartbeatThread(
        away,
        [heartbeat_of(away, crew, heard)],
        lambda own, _: own.session("w1", "i1"),
        [backoff()],
    )
    thread.start()
    await eventually(lambda: heard.failures, "a failed beat")
    began = time.monotonic()
    await thread.stop()
    assert time.monotonic() - began < 1
