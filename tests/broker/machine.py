"""Random calls, crashes and lost replies, as rules; ``Pair`` compares broker and model."""

from __future__ import annotations

from typing import Any

from bench import complete, fail, hold, release
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from model import FORGOTTEN_MS
from pair import NAMES, Pair

from taskqueue_core.errors import CapacityError, StateConflictError
from taskqueue_core.keys import id_from_hex, id_to_hex
from taskqueue_core.models import Delivery, Outcome, OutcomeStatus, Priority
from taskqueue_core.states import TaskState

KINDS = ("complete", "fail", "release", "hold")

#: Steps of the clock: within a lease, and past one; never close to a boundary, since Redis' own
#: clock, which counts the age of leases, goes on by a few milliseconds.
STEPS_MS = (30, 4_000, 11_000, 17_000, 8 * 86_400_000)


class Machine(Pair):
    """What clients, workers, time and misfortune do."""

    # Clients

    @initialize(priorities=st.lists(st.integers(0, 3), max_size=6))
    def begin(self, priorities: list[int]) -> None:
        """Start with some work."""
        for priority in priorities:
            self._submit(priority, None)

    @rule(
        priorities=st.lists(st.integers(0, 3), min_size=1, max_size=3),
        delay=st.sampled_from([None, None, -1, 3_000, 20_000]),
    )
    def submit(self, priorities: list[int], delay: int | None) -> None:
        """Submit; the same call again has the same answer."""
        for priority in priorities:
            self._submit(priority, None if delay is None else self.model.now + delay)

    def _submit(self, priority: int, due: int | None) -> None:
        task = self.bench.new(priority=Priority(priority), scheduled_at_ms=due)
        is_accepted = self.model.submit(id_to_hex(task.id), priority, due)
        for _ in range(2):
            answer = self.run(self.broker.submit_many([task]))[0]
            assert isinstance(answer, CapacityError) is not is_accepted

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), is_retry=st.booleans())
    def steer(self, data: st.DataObject, *, is_retry: bool) -> None:
        """Cancel or retry any task."""
        task = data.draw(st.sampled_from(list(self.model.tasks.values())))
        is_possible = self.model.restart(task) if is_retry else self.model.cancel(task)
        call = self.broker.retry if is_retry else self.broker.cancel
        try:
            self.run(call(id_from_hex(task.digits)))
        except StateConflictError:
            assert not is_possible
        else:
            assert is_possible

    @rule(verb=st.sampled_from(["redrive", "clear", "purge"]), priority=st.integers(0, 3))
    def administer(self, verb: str, priority: int) -> None:
        """Retry or give up all dead letters, or cancel what waits at a priority."""
        dead = sorted(self.model.in_state(TaskState.DEAD_LETTER), key=lambda t: (t.ended, t.digits))
        if verb == "purge":
            assert self.run(self.broker.purge(Priority(priority))) == self.model.purge(priority)
        elif verb == "redrive":
            assert self.run(self.broker.redrive()) == len(dead)
            for task in dead:
                self.model.restart(task)
        else:
            assert self.run(self.broker.clear()) == len(dead)
            for task in dead:
                self.model.end(task, TaskState.FAILED)

    # Workers

    @rule(name=st.sampled_from(NAMES), wanted=st.integers(1, 4), is_lost=st.booleans())
    def fetch(self, name: str, wanted: int, *, is_lost: bool) -> None:
        """Take tasks; when the reply is lost, the same request brings the same ones."""
        session = self.sessions[name]
        expected = self.model.fetch(name, session.instance, wanted)
        self.requests += 1
        streams = [self.bench.keys.stream("default", n) for n in (3, 2, 1, 0)]
        for _ in range(1 + is_lost):
            fetched = self.run(session.fetch(wanted, streams=streams, request=self.requests))
            assert [delivery.digits for delivery in fetched.deliveries] == expected or (
                # A repeat of a request that brought nothing is a request like any other.
                not expected
            )
        self._take(name, fetched.deliveries)

    def _take(self, name: str, deliveries: list[Delivery]) -> None:
        self.held[name] += deliveries
        for delivery in deliveries:
            self.past.append((name, self.sessions[name].instance, delivery))
            task = self.model.tasks[delivery.digits]
            assert delivery.number == task.fence[0]
            assert delivery.attempts == task.attempts
            assert delivery.lost_leases == task.lost

    @precondition(lambda self: self.past)
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def report(self, data: st.DataObject, kind: str) -> None:
        """Report any delivery there ever was, twice: only the latest one may change anything."""
        self._report(data, data.draw(st.sampled_from(self.past[-12:])), kind)

    def _report(self, data: st.DataObject, past: tuple[str, str, Delivery], kind: str) -> None:
        name, instance, delivery = past
        session = self.broker.session(name, instance)
        retries = data.draw(st.integers(0, 2))
        task = self.model.owned(delivery.digits, (delivery.number, instance))
        outcome = self._outcome(kind, delivery, retries)
        call = getattr(session, kind)
        if task:
            self._apply(kind, task, retries)
            assert self.run(call([outcome])) == [OutcomeStatus.ACCEPTED]
            assert self.run(call([outcome])) == [OutcomeStatus.ALREADY]
        else:
            assert self.run(call([outcome])) != [OutcomeStatus.ACCEPTED]

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def work(self, name: str, data: st.DataObject) -> None:
        """Take a task and end it at once, in any way."""
        self.fetch(name, 1, is_lost=False)
        if self.past:
            self._report(data, self.past[-1], data.draw(st.sampled_from(KINDS)))

    def _outcome(self, kind: str, delivery: Delivery, retries: int) -> Outcome:
        match kind:
            case "complete":
                return complete(delivery)
            case "fail":
                return fail(delivery, max_retries=retries, delay_ms=2_000)
            case "release":
                return release(delivery)
        return hold(delivery, longest_ms=100 * 86_400_000)

    def _apply(self, kind: str, task: Any, retries: int) -> None:
        match kind:
            case "complete":
                self.model.end(task, TaskState.COMPLETED)
            case "fail":
                self.model.fail(task, retries, 2_000)
            case "release":
                self.model.release(task)
            case "hold":
                self.model.hold(task, 5_000)

    @rule(name=st.sampled_from(NAMES), forgets=st.booleans())
    def beat(self, name: str, *, forgets: bool) -> None:
        """Renew leases; what a worker does not name goes back when it is old enough."""
        session = self.sessions[name]
        named = [] if forgets else self.held[name]
        self.model.beat(name, session.instance, {(d.digits, d.number) for d in named})
        streams = [self.bench.keys.stream("default", n) for n in (3, 2, 1, 0)]
        self.requests += 1
        beat = self.run(
            session.heartbeat(
                request=self.requests,
                held=named[-100:],
                active=0,
                forgotten_ms=FORGOTTEN_MS,
                streams=streams,
            )
        )
        assert beat.is_known

    @rule(name=st.sampled_from(NAMES))
    def recover(self, name: str) -> None:
        """Take over what has lapsed."""
        session = self.sessions[name]
        streams = [self.bench.keys.stream("default", n) for n in (3, 2, 1, 0)]
        expected = self.model.recover(name, session.instance)
        recovered = self.run(session.recover(100, streams=streams))
        assert {delivery.digits for delivery in recovered.deliveries} == expected
        self._take(name, recovered.deliveries)

    @rule(name=st.sampled_from(NAMES))
    def crash(self, name: str) -> None:
        """Lose a worker and start it again under its name: nobody knows what it held."""
        self.run(self.bench.redis.delete(self.bench.keys.worker(name)))
        self.run(self._join(name))

    # Time and the broker itself

    @rule(step=st.sampled_from(STEPS_MS))
    def advance(self, step: int) -> None:
        """Move the clock, and the age of every lease with it."""
        self.model.now += step
        for task in self.model.in_state(TaskState.RUNNING):
            task.age += step
        self.run(self._age(step))

    @rule(name=st.sampled_from(NAMES), other=st.sampled_from(NAMES))
    def lapse(self, name: str, other: str) -> None:
        """Let every lease run out while one worker beats, then have a worker recover."""
        self.advance(11_000)
        self.beat(name, forgets=False)
        self.advance(11_000)
        self.beat(name, forgets=False)
        self.recover(other)

    @rule(verb=st.sampled_from(["promote", "retain", "forget scripts"]))
    def upkeep(self, verb: str) -> None:
        """Move due tasks, delete what is over, or have Redis forget the scripts."""
        if verb == "promote":
            self.model.promote(100)
            self.run(self.broker.promote())
        elif verb == "retain":
            self.model.retain()
            self.run(self.broker.retain())
        else:
            self.run(self.bench.redis.script_flush())
