"""The real broker and its model side by side, compared after every step of a machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from bench import CLOCK, Bench
from hypothesis.stateful import RuleBasedStateMachine, invariant
from model import BACKLOG, LEASE_MS, Model

from taskqueue_core.broker import Broker, WorkerSession, open_redis
from taskqueue_core.broker.scripts import Limits
from taskqueue_core.keys import GROUP, id_to_hex
from taskqueue_core.models import Delivery
from taskqueue_core.settings import QueueSettings, Settings

T = TypeVar("T")
NAMES = ("w0", "w1")


class Pair(RuleBasedStateMachine):
    """Two workers, any number of clients, one partition; the backlog limit is small."""

    redis_settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.instances = 0
        self.requests = 0
        self.seen_events = 0
        self.folded: dict[str, str] = {}
        self.held: dict[str, list[Delivery]] = {name: [] for name in NAMES}
        self.past: list[tuple[str, str, Delivery]] = []
        self.sessions: dict[str, WorkerSession] = {}
        self.run(self._open())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call of the broker to its end."""
        return self.loop.run_until_complete(call)

    async def _open(self) -> None:
        queue = QueueSettings(namespace=f"m{time.monotonic_ns()}"[:30], max_queue_size=BACKLOG)
        settings = self.redis_settings.model_copy(update={"queue": queue})
        assert Limits.from_settings(settings).lease_ms == LEASE_MS
        self.broker = Broker(open_redis(settings), settings, clock=CLOCK)
        now = time.time_ns() // 1_000_000 + 3_600_000
        self.bench = Bench(self.broker, now)
        self.model = Model(now)
        await self.bench.advance(0)
        await self.broker.prepare()
        for name in NAMES:
            await self._join(name)

    async def _join(self, name: str) -> None:
        self.instances += 1
        session = self.broker.session(name, f"i{self.instances}")
        await session.register(concurrency=4, version="1", handlers={})
        self.sessions[name] = session
        self.held[name] = []

    def teardown(self) -> None:
        """Leave nothing in Redis."""
        self.run(self.bench.clean())
        self.run(self.bench.redis.delete(self.bench.keys.prefix + "clock"))
        self.run(self.broker.close())
        self.loop.close()

    async def _age(self, step: int) -> None:
        await self.bench.advance(step)
        # Registrations live by the real clock; the beat that each worker owes is a rule of its own.
        for priority in range(4):
            stream = self.bench.keys.stream("default", priority)
            if not await self.bench.redis.exists(stream):
                continue
            rows = await self.bench.redis.xpending_range(stream, GROUP, "-", "+", 100)
            for row in rows:
                await self.bench.redis.xclaim(
                    stream,
                    GROUP,
                    row["consumer"],
                    0,
                    [row["message_id"]],
                    idle=row["time_since_delivered"] + step,
                    justid=True,
                )

    @invariant()
    def everything_is_in_its_place(self) -> None:
        """Audit the namespace and compare every task with the model's."""
        assert self.run(self.broker.inspection.audit()) == []
        keys, digits = self.bench.keys, list(self.model.tasks)
        stored = self.run(self.broker.inspection.read(keys, digits)) if digits else []
        found = {
            id_to_hex(t.id): (t.state, t.attempts, t.lost_leases, t.deliveries) for t in stored
        }
        expected = {
            t.digits: (t.state, t.attempts, t.lost, t.fence[0]) for t in self.model.tasks.values()
        }
        assert found == expected

    @invariant()
    def events_tell_the_states(self) -> None:
        """Fold the events: the last one of a task names its state."""
        for event in self.run(self.bench.events(self.seen_events)):
            self.seen_events = event.sequence
            if "task_id" in event.data:
                self.folded[id_to_hex(event.data["task_id"])] = event.data["state"]
        for digits, task in self.model.tasks.items():
            assert self.folded[digits] == task.state
