"""Random calls, crashes and lost replies, as rules; ``Pair`` compares broker and model.

Rules take plain values, so that a history that was found can be written down, see
``histories.py``. A value that picks something is taken modulo the number of what there is.
"""

from __future__ import annotations

from typing import Any

from bench import complete, fail, hold, release
from callers import LARGE, Callers, losses, picks, priorities
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model import BACKLOG, FORGOTTEN_MS, HELD_MS, HOLD_MS
from pair import WORKERS

from taskqueue_core.models import Delivery, Outcome, OutcomeStatus
from taskqueue_core.states import TaskState

KINDS = ("complete", "fail", "drop", "release", "hold")
NAMES = tuple(WORKERS)
RETRY_MS = 2_000

#: Steps of the clock: within a lease, and past one; never close below a boundary, since Redis' own
#: clock, which counts the age of leases, goes on by a few milliseconds.
STEPS_MS = (30, 4_000, 11_000, 17_000, 70_000)
DAY_MS = 86_400_000

names = st.sampled_from(NAMES)
kinds = st.sampled_from(KINDS)
retries = st.integers(0, 2)


class Machine(Callers):
    """What clients, workers, time and misfortune do."""

    # Workers

    @rule(
        name=names,
        wanted=st.integers(1, 4),
        rides=st.booleans(),
        reply=st.sampled_from(["seen", "seen", "repeated", "late"]),
    )
    def fetch(self, name: str, wanted: int, reply: str = "seen", *, rides: bool = False) -> None:
        """Take tasks, and report one that was taken before in the same call.

        A reply that is lost makes the worker send the request again, at once or after others have
        done what they wanted meanwhile.
        """
        if name in self.unanswered:
            self._fetch_again(name)
            return
        session = self.sessions[name]
        riding = self.held[name][-1:] if rides else []
        for delivery in riding:
            if task := self._owned(name, delivery):
                self.model.end(task, TaskState.COMPLETED)
        expected = self.model.fetch(name, session.instance, wanted)
        given = [(digits, self.model.tasks[digits].fence) for digits in expected]
        self.requests += 1
        request = (self.requests, wanted, [complete(one, LARGE) for one in riding], given)
        with self.replies_lost(reply == "repeated"):
            deliveries = self._send(name, request)
        assert [delivery.digits for delivery in deliveries] == expected
        if reply == "late":
            self.unanswered[name] = request
        else:
            self._take(name, deliveries)

    def _fetch_again(self, name: str) -> None:
        request = self.unanswered.pop(name)
        given = request[3]
        if given:
            expected = self.model.fetch_again(given)
        else:
            expected = self.model.fetch(name, self.sessions[name].instance, request[1])
        deliveries = self._send(name, request)
        assert [delivery.digits for delivery in deliveries] == expected
        self._take(name, deliveries)

    def _send(self, name: str, request: Any) -> list[Delivery]:
        number, wanted, outcomes, _ = request
        fetched = self.run(
            self.sessions[name].fetch(
                wanted, streams=self._streams(), request=number, outcomes=outcomes
            )
        )
        return fetched.deliveries

    def _streams(self) -> list[str]:
        return [self.bench.keys.stream("default", priority) for priority in (3, 2, 1, 0)]

    def _owned(self, name: str, delivery: Delivery) -> Any:
        fence = (delivery.number, self.sessions[name].instance)
        return self.model.owned(delivery.digits, fence)

    def _take(self, name: str, deliveries: list[Delivery]) -> None:
        self.held[name] += deliveries
        for delivery in deliveries:
            self.past.append((name, self.sessions[name].instance, delivery))
            task = self.model.tasks[delivery.digits]
            assert delivery.number == task.fence[0]
            assert delivery.attempts == task.attempts
            assert delivery.lost_leases == task.lost
            assert delivery.body == (b"[%s]" % (LARGE if task.priority == 3 else b"{}"))

    @precondition(lambda self: self.past)
    @rule(pick=picks, kind=kinds, retries=retries)
    def report(self, pick: int, kind: str, retries: int = 0) -> None:
        """Report any delivery there ever was, twice: only the latest one may change anything."""
        name, instance, delivery = self.past[-1 - pick % len(self.past)]
        session = self.broker.session(name, instance)
        task = self.model.owned(delivery.digits, (delivery.number, instance))
        outcome = self._outcome(kind, delivery, retries)
        call = getattr(session, "fail" if kind == "drop" else kind)
        if task:
            self._apply(kind, task, retries)
            assert self.run(call([outcome])) == [OutcomeStatus.ACCEPTED]
            assert self.run(call([outcome])) == [OutcomeStatus.ALREADY]
        else:
            assert self.run(call([outcome])) != [OutcomeStatus.ACCEPTED]

    def _outcome(self, kind: str, delivery: Delivery, retries: int) -> Outcome:
        match kind:
            case "complete":
                return complete(delivery)
            case "fail":
                fields = {"max_retries": retries, "delay_ms": RETRY_MS, "history": b"{}"}
                return fail(delivery, LARGE, **fields)
            case "drop":
                return fail(delivery, is_dropped=True)
            case "release":
                return release(delivery)
        return hold(delivery, cap_ms=HOLD_MS, longest_ms=HELD_MS)

    def _apply(self, kind: str, task: Any, retries: int) -> None:
        match kind:
            case "complete":
                self.model.end(task, TaskState.COMPLETED)
            case "fail":
                self.model.fail(task, retries, RETRY_MS)
            case "drop":
                self.model.drop(task)
            case "release":
                self.model.release(task)
            case "hold":
                self.model.hold(task)

    @rule(name=names, forgets=st.booleans(), is_lost=losses)
    def beat(self, name: str, *, forgets: bool = False, is_lost: bool = False) -> None:
        """Renew leases; what a worker does not name goes back when it is old enough."""
        session = self.sessions[name]
        named = [] if forgets else self.held[name]
        self.model.beat(
            name, session.instance, {(d.digits, d.number) for d in named}, WORKERS[name]
        )
        self.requests += 1
        call = session.heartbeat(
            request=self.requests,
            held=named[-100:],
            active=0,
            types=sorted(WORKERS[name]),
            forgotten_ms=FORGOTTEN_MS,
            streams=self._streams(),
        )
        with self.replies_lost(is_lost):
            assert self.run(call).is_known

    @rule(name=names, is_lost=losses)
    def recover(self, name: str, *, is_lost: bool = False) -> None:
        """Take over what has lapsed; with the reply, all that was taken over is lost again."""
        session = self.sessions[name]
        expected = self.model.recover(name, session.instance)
        with self.replies_lost(is_lost):
            recovered = self.run(session.recover(100, streams=self._streams()))
        if not is_lost:
            assert {delivery.digits for delivery in recovered.deliveries} == expected
        self._take(name, recovered.deliveries)

    @rule(name=names)
    def crash(self, name: str) -> None:
        """Lose a worker and start it again under its name: nobody knows what it held."""
        self.run(self.bench.redis.delete(self.bench.keys.worker(name)))
        self.run(self._join(name))

    # Time and the broker itself

    @rule(step=st.sampled_from(STEPS_MS))
    def advance(self, step: int) -> None:
        """Move the clock."""
        self.move_clock(step)

    @rule(verb=st.sampled_from(["promote", "retain", "forget scripts"]), is_lost=losses)
    def upkeep(self, verb: str, *, is_lost: bool = False) -> None:
        """Move due tasks, delete what is over, or have Redis forget the scripts."""
        with self.replies_lost(is_lost):
            if verb == "promote":
                self.model.promote(100)
                self.run(self.broker.promote())
            elif verb == "retain":
                self.model.retain()
                self.run(self.broker.retain())
            else:
                self.run(self.bench.redis.script_flush())

    # What single rules would seldom come to

    @rule(name=names, kind=kinds, retries=retries)
    def work(self, name: str, kind: str, retries: int = 0) -> None:
        """Take a task and end it at once, in any way."""
        self.fetch(name, 1)
        if self.past:
            self.report(0, kind, retries)

    @rule(name=names, other=names)
    def lapse(self, name: str, other: str) -> None:
        """Let every lease run out while one worker beats, then have a worker recover."""
        for _ in range(2):
            self.move_clock(11_000)
            self.beat(name)
        self.recover(other)

    @rule(name=names, step=st.sampled_from([4_000, 11_000]))
    def outage(self, name: str, step: int) -> None:
        """Let nobody beat for longer than a lease: what has lapsed then is forgiven, once."""
        self.move_clock(17_000)
        self.recover(name)
        self.beat(name, forgets=True)
        self.move_clock(step)
        self.recover(name)

    @rule(urgencies=st.lists(priorities, min_size=1, max_size=3), wanted=st.integers(1, 3))
    def misroute(self, urgencies: list[int], wanted: int) -> None:
        """Have the worker without the handler put tasks aside, and the other ask for them."""
        for priority in urgencies:
            self.submit(priority, "b")
        self.fetch("w0", 4)
        for pick in range(min(len(self.past), len(urgencies))):
            self.report(pick, "hold")
        self.beat("w1")
        self.fetch("w1", wanted)

    @rule(priority=priorities)
    def flood(self, priority: int) -> None:
        """Submit more than there is room for."""
        for _ in range(BACKLOG + 1 - self.model.backlog()):
            self.submit(priority, "a")

    @rule(name=names, delay=st.sampled_from([None, 20_000]))
    def change_mind(self, name: str, delay: int | None) -> None:
        """Submit a task that starts at once, or later; cancel it, and want it after all."""
        self.submit(1, "a", delay)
        self.fetch(name, 3)
        self.steer("cancel", 0)
        self.steer("retry", 0)

    @rule(name=names, kind=kinds)
    def stop_at_work(self, name: str, kind: str) -> None:
        """Ask for the end of a task that runs, which then comes in any way."""
        self.submit(1, "a")
        self.fetch(name, 3)
        self.steer("stop", 0)
        if self.past:
            self.report(0, kind, 2)

    @rule(name=names)
    def bury(self, name: str) -> None:
        """Have a task fail for good."""
        self.work(name, "fail")

    @rule(name=names, other=names)
    def poison(self, name: str, other: str) -> None:
        """Have a task end every worker that takes it."""
        self.fetch(name, 1, "late")
        for _ in range(3):
            self.lapse(other, name)
            self.crash(name)

    @rule(days=st.sampled_from([6, 8, 31]))
    def grow_old(self, days: int) -> None:
        """Let ended tasks come to their time."""
        self.move_clock(days * DAY_MS)
        self.upkeep("retain")
