"""The real broker and its model side by side, compared after every step of a machine.

What is compared, in the words of ``FAULTS``: each accepted task is in exactly one place, the one
that its state names (I1, I2); ended ones stay so (I3); fences, attempts and lost leases count as
they should (I4, I5); order (I6, I7) and due times (I12) are what the model hands out; the events
tell every state (I8); nothing is accepted past the backlog's limit, which retries alone may exceed
(I9); nothing dangles (I10); an id or a key that is submitted again means the same task (I11).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bench import CLOCK, Bench
from hypothesis.stateful import RuleBasedStateMachine, invariant
from look import age, look
from model import BACKLOG, LEASE_MS, Fence, Model

from taskqueue_core.broker import Broker, WorkerSession, open_redis
from taskqueue_core.broker.scripts import Limits
from taskqueue_core.events import Event
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Delivery, Outcome
from taskqueue_core.settings import QueueSettings, Settings
from taskqueue_core.states import TaskState

T = TypeVar("T")

#: Worker -> the types that it has handlers for.
WORKERS = {"w0": frozenset({"a"}), "w1": frozenset({"a", "b"})}
#: By how much the clock of Redis, which counts leases, may be ahead of ours.
DRIFT_MS = 1_000

Request = tuple[int, int, list[Outcome], list[tuple[str, Fence]]]


class Pair(RuleBasedStateMachine):
    """Two workers, any number of clients, one partition; the backlog limit is small."""

    redis_settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.began = time.monotonic()
        self.instances = 0
        self.requests = 0
        self.seen_events = 0
        self.loses_replies = False
        self.folded: dict[str, str] = {}
        self.submitted: list[Any] = []
        self.held: dict[str, list[Delivery]] = {}
        self.past: list[tuple[str, str, Delivery]] = []
        self.sessions: dict[str, WorkerSession] = {}
        #: Worker -> a fetch whose reply has not arrived: it will be sent again.
        self.unanswered: dict[str, Request] = {}
        self.run(self._open())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call of the broker to its end."""
        return self.loop.run_until_complete(call)

    async def _open(self) -> None:
        queue = QueueSettings(namespace=f"m{time.monotonic_ns()}"[:30], max_queue_size=BACKLOG)
        settings = self.redis_settings.model_copy(update={"queue": queue})
        assert Limits.from_settings(settings).lease_ms == LEASE_MS
        self.broker = Broker(open_redis(settings), settings, clock=CLOCK)
        self._lose_replies()
        now = time.time_ns() // 1_000_000 + 3_600_000
        self.bench = Bench(self.broker, now)
        self.model = Model(now)
        await self.bench.advance(0)
        await self.broker.prepare()
        for name in WORKERS:
            await self._join(name)

    def _lose_replies(self) -> None:
        """Make every call of a script twice while replies are lost, as its caller would."""
        call = self.broker.scripts.call

        async def twice(*arguments: Any) -> Any:
            if self.loses_replies:
                await call(*arguments)
            return await call(*arguments)

        self.broker.scripts.call = twice  # type: ignore[method-assign]

    @contextmanager
    def replies_lost(self, is_lost: bool) -> Iterator[None]:
        """Lose the first reply to each call of a script in the block, or not."""
        self.loses_replies = is_lost
        try:
            yield
        finally:
            self.loses_replies = False

    async def _join(self, name: str) -> None:
        self.instances += 1
        session = self.broker.session(name, f"i{self.instances}")
        await session.register(concurrency=4, version="1", handlers={})
        self.sessions[name] = session
        self.held[name] = []
        self.unanswered.pop(name, None)
        self.model.types.pop(name, None)

    def move_clock(self, step: int) -> None:
        """Move the clock, and the age of every lease with it."""
        self.model.now += step
        for task in self.model.in_state(TaskState.RUNNING):
            task.age += step
        self.run(self.bench.advance(step))
        self.run(age(self.bench.redis, self.bench.keys, step))

    def teardown(self) -> None:
        """Audit once more, by the real audit, and leave nothing in Redis."""
        try:
            assert self.run(self.broker.inspection.audit()) == []
        finally:
            self.run(self.bench.clean())
            self.run(self.bench.redis.delete(self.bench.keys.prefix + "clock"))
            self.run(self.broker.close())
            self.loop.close()

    @invariant()
    def broker_and_model_agree(self) -> None:
        """Compare every place, every task and every lease; fold what events tell."""
        found = self.run(look(self.bench.redis, self.bench.keys, self.seen_events))
        assert found.look == self.model.look()
        assert found.strays == []
        # Leases age in real time too, which nobody stops: no longer than this history has taken.
        drift = (time.monotonic() - self.began) * 1000 + DRIFT_MS
        for digits, lease in found.ages.items():
            assert 0 <= lease - self.model.tasks[digits].age < drift
        for event in found.events:
            self._fold(event)
        for digits, task in self.model.tasks.items():
            assert self.folded[digits] == task.state

    def _fold(self, event: Event) -> None:
        assert event.sequence == self.seen_events + 1
        self.seen_events = event.sequence
        if "task_id" not in event.data:
            return
        digits = id_to_hex(event.data["task_id"])
        if self.folded.get(digits) == TaskState.COMPLETED:
            assert event.type == "task.submitted"
        self.folded[digits] = event.data["state"]
