"""What clients and administrators do to the broker, as rules."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from pair import Pair

from taskqueue_core.errors import CapacityError, IdempotencyError, StateConflictError
from taskqueue_core.keys import id_from_hex, id_to_hex
from taskqueue_core.models import NewTask, Priority, Submitted
from taskqueue_core.states import TaskState

LARGE = b'"' + b"x" * 99 + b'"'

picks = st.integers(0, 11)
priorities = st.integers(0, 3)
types = st.sampled_from(["a", "b"])
#: Losing a reply is the exception.
losses = st.sampled_from([False, False, False, True])


class Callers(Pair):
    """Any number of clients. A value that picks something is taken modulo what there is."""

    @initialize(priority=st.lists(priorities, max_size=6), kind=types)
    def begin(self, priority: list[int], kind: str) -> None:
        """Start with some work."""
        for one in priority:
            self.submit(one, kind)

    @rule(
        priority=priorities,
        kind=types,
        delay=st.sampled_from([None, None, None, -1, 3_000, 20_000]),
        is_lost=losses,
    )
    def submit(
        self, priority: int, kind: str, delay: int | None = None, *, is_lost: bool = False
    ) -> None:
        """Submit a task: critical ones with a large body."""
        task = self.bench.new(
            kind,
            priority=Priority(priority),
            scheduled_at_ms=None if delay is None else self.model.now + delay,
            payload=LARGE if priority == Priority.CRITICAL else b"{}",
        )
        self.submitted.append(task)
        self._submit(task, is_lost=is_lost)

    @precondition(lambda self: self.submitted)
    @rule(pick=picks)
    def submit_again(self, pick: int) -> None:
        """Submit an id that was submitted before, perhaps long ago: it is the same task still."""
        self._submit(self.submitted[-1 - pick % len(self.submitted)], is_lost=False)

    def _submit(self, task: NewTask, *, is_lost: bool) -> None:
        is_accepted = self.model.submit(
            id_to_hex(task.id), task.type, task.priority, task.scheduled_at_ms
        )
        with self.replies_lost(is_lost):
            answer = self.run(self.broker.submit_many([task]))[0]
        assert isinstance(answer, CapacityError) is not is_accepted

    @rule(key=st.sampled_from("abc"), body=st.sampled_from([b"1", b"1", b"2"]))
    def submit_with_key(self, key: str, body: bytes) -> None:
        """Submit with an idempotency key: one task a key, whoever sends it again."""
        known = self.broker.idempotency_key(key, body)
        task = known.apply(self.bench.new("a"))
        is_there = self.model.records.get(key, (b"", ""))[1] in self.model.tasks
        expected = self.model.submit_with_key(key, body, id_to_hex(task.id))
        for _ in range(2):
            answer = self.run(self.broker.submit_many([task]))[0]
            if isinstance(answer, Submitted):
                assert id_to_hex(answer.id) == expected
                # A task that was deleted meanwhile is made again, under the id it had.
                assert answer.is_repeat == (is_there and answer.id != task.id)
                is_there = True
            elif isinstance(answer, CapacityError):
                assert expected == ""
            else:
                assert isinstance(answer, IdempotencyError)
                assert expected is None

    @precondition(lambda self: self.model.tasks)
    @rule(verb=st.sampled_from(["cancel", "stop", "retry"]), pick=picks, is_lost=losses)
    def steer(self, verb: str, pick: int, *, is_lost: bool = False) -> None:
        """Cancel, stop or retry any task; a repeat for want of the reply is answered alike."""
        tasks = list(self.model.tasks.values())
        task = tasks[-1 - pick % len(tasks)]
        change = {"retry": self.model.restart}.get(verb) or getattr(self.model, verb)
        is_possible = change(task)
        call: Any = {
            "cancel": self.broker.cancel,
            "stop": partial(self.broker.cancel, running=True),
            "retry": self.broker.retry,
        }[verb]
        with self.replies_lost(is_lost):
            try:
                is_cancelled = self.run(call(id_from_hex(task.digits)))
            except StateConflictError:
                assert not is_possible
            else:
                assert is_possible
                assert is_cancelled in (None, task.state is TaskState.CANCELLED)

    @rule(verb=st.sampled_from(["pause", "resume", "resume"]), priority=priorities, is_lost=losses)
    def switch(self, verb: str, priority: int, *, is_lost: bool = False) -> None:
        """Have no task of a priority start, or let them start again."""
        if verb == "pause":
            self.model.paused.add(priority)
        elif priority in self.model.paused:
            self.model.paused.discard(priority)
            self.model.resumed[priority] = self.model.now
        with self.replies_lost(is_lost):
            self.run(getattr(self.broker.priorities, verb)(Priority(priority)))
        depths = self.run(self.broker.inspection.queue_stats()).depths
        assert {int(p) for p, depth in depths.items() if depth.is_paused} == self.model.paused

    @rule(verb=st.sampled_from(["redrive", "clear", "purge"]), priority=priorities, is_lost=losses)
    def administer(self, verb: str, priority: int, *, is_lost: bool = False) -> None:
        """Retry or give up all dead letters, or cancel what waits at a priority."""
        dead = sorted(self.model.in_state(TaskState.DEAD_LETTER), key=lambda t: (t.ended, t.digits))
        expected = self.model.purge(priority) if verb == "purge" else len(dead)
        for task in dead:
            if verb == "redrive":
                self.model.restart(task)
            elif verb == "clear":
                self.model.end(task, TaskState.FAILED)
        call = self.broker.purge(Priority(priority)) if verb == "purge" else None
        with self.replies_lost(is_lost):
            done = self.run(call or getattr(self.broker, verb)())
        assert is_lost or done == expected
