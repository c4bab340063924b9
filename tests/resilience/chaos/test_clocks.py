"""Only the broker's clock matters, and when that one jumps nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from staff import at_work, ended

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.broker.clients import server_time_ms
from taskqueue_core.keys import GROUP
from taskqueue_core.models import Delivery, NewTask, Outcome, OutcomeKind, OutcomeStatus
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio

HOUR = 3600


@handler("nap", timeout=60)
async def nap(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Sleep and answer with the delivery's number."""
    await asyncio.sleep(payload.get("seconds", 0))
    return ctx.fence


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
async def test_skewed_clock_of_server_and_worker(
    fragile_broker: Broker, fragile: Settings, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    """An hour wrong: tasks start when they are due by the broker's clock, and leases hold."""
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + skew * 1_000_000_000)
    app = create_app(fragile, now_ms=lambda: time.time_ns() // 1_000_000)
    transport = httpx.ASGITransport(app)
    async with (
        app.running(),
        httpx.AsyncClient(transport=transport, base_url="http://x") as http,
        at_work(fragile, nap),
    ):
        broker_ms = await server_time_ms(fragile_broker.redis)
        due = datetime.fromtimestamp(broker_ms / 1000, UTC) + timedelta(seconds=1)
        body = {
            "type": "nap",
            "scheduled_at": due.isoformat(timespec="milliseconds"),
            "payload": {"seconds": 1.5},
        }
        answer = await http.post("/api/v1/tasks", json=body)
        assert answer.status_code == 201, answer.text
        task = await ended(fragile_broker, answer.json()["id"])
    assert (task.state, task.deliveries) == (TaskState.COMPLETED, 1)
    assert task.started_at_ms is not None
    assert 0 <= task.started_at_ms - int(due.timestamp() * 1000) < 1000


class Jumping:
    """A namespace whose clock is a key, and two workers in it."""

    CLOCK = "local now = tonumber(redis.call('GET', string.sub(KEYS[1], 1, -5) .. 'clock'))"

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self.redis: Any = broker.redis
        self.broker = Broker(broker.redis, settings, clock=self.CLOCK)
        self.keys = self.broker.partitions[0]
        self.first = self.broker.session("w1", "i1")
        self.second = self.broker.session("w2", "i2")
        self._requests = 0
        self._now = 10_000_000_000

    async def jump(self, seconds: int) -> None:
        """Move the clock, forwards or backwards."""
        self._now += seconds * 1000
        await self.redis.set(self.keys.prefix + "clock", self._now)

    async def join(self) -> None:
        """Register both."""
        for session in (self.first, self.second):
            await session.register(concurrency=4, version="1", handlers={})
            await self.beat(session)

    async def beat(self, session: WorkerSession, held: list[Delivery] | None = None) -> None:
        """Send a heartbeat."""
        self._requests += 1
        await session.heartbeat(request=self._requests, active=0, held=held or [])

    async def fetch(self, session: WorkerSession) -> list[Delivery]:
        """Take what there is."""
        self._requests += 1
        fetched = await session.fetch(9, streams=self.streams, request=self._requests)
        return fetched.deliveries

    @property
    def streams(self) -> list[str]:
        """The streams of the only queue."""
        return [self.keys.stream("default", number) for number in (3, 2, 1, 0)]

    async def submit(self, **fields: Any) -> str:
        """Submit a task."""
        task = NewTask(id=self.broker.new_task_id(), type="nap", **fields)
        return (await self.broker.submit(task)).id

    async def state(self, task_id: str) -> TaskState:
        """Return a task's state."""
        return (await self.broker.inspection.get(task_id)).state

    async def lapse(self, delivery: Delivery) -> None:
        """Make a lease as old as if the clock that Redis counts it by had jumped, too."""
        stream = self.keys.stream("default", 1)
        idle = 60_000
        await self.redis.xclaim(stream, GROUP, "w1", 0, [delivery.entry_id], idle=idle, justid=True)


@pytest.fixture
async def jumping(settings: Settings, broker: Broker) -> Jumping:
    """Return a namespace with a clock to move."""
    bench = Jumping(settings, broker)
    await bench.jump(0)
    await bench.join()
    return bench


def done(delivery: Delivery) -> Outcome:
    """Return a successful outcome."""
    return Outcome(delivery=delivery, kind=OutcomeKind.COMPLETE, value=msgspec.json.encode(1))


async def test_broker_clock_jumps_forwards(jumping: Jumping) -> None:
    """A minute at once: what is due is early at most, a takeover is fenced, once is once."""
    task_id = await jumping.submit()
    later = await jumping.submit(scheduled_at_ms=10_000_000_000 + 30_000)
    [early] = await jumping.fetch(jumping.first)
    await jumping.lapse(early)
    await jumping.jump(60)
    await jumping.beat(jumping.second)
    await jumping.jump(10)
    await jumping.beat(jumping.second)
    [again] = (await jumping.second.recover(9, streams=jumping.streams)).deliveries
    assert await jumping.first.complete([done(early)]) == [OutcomeStatus.STALE]
    assert await jumping.second.complete([done(again)]) == [OutcomeStatus.ACCEPTED]
    assert await jumping.state(task_id) is TaskState.COMPLETED
    assert [one.number for one in await jumping.fetch(jumping.second)] == [1]
    assert await jumping.state(later) is TaskState.RUNNING


async def test_broker_clock_jumps_backwards(jumping: Jumping) -> None:
    """A minute back: nothing is lost; what was due is late by no more than the jump."""
    running = await jumping.submit()
    [delivery] = await jumping.fetch(jumping.first)
    scheduled = await jumping.submit(scheduled_at_ms=10_000_000_000 + 1000)
    await jumping.jump(-60)
    waiting = await jumping.submit()
    await jumping.beat(jumping.first, [delivery])
    assert (await jumping.second.recover(9, streams=jumping.streams)).deliveries == []
    assert await jumping.first.complete([done(delivery)]) == [OutcomeStatus.ACCEPTED]
    assert len(await jumping.fetch(jumping.first)) == 1
    await jumping.jump(61)
    assert len(await jumping.fetch(jumping.first)) == 1
    states = {name: await jumping.state(name) for name in (running, waiting, scheduled)}
    assert states == {
        running: TaskState.COMPLETED,
        waiting: TaskState.RUNNING,
        scheduled: TaskState.RUNNING,
    }
