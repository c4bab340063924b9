"""A model of the broker in plain Python: what every call must do, without Redis.

It keeps the queues, the schedule and each task's counters as the life cycle demands; the machine
in ``machine.py`` runs the real scripts beside it and compares the two after every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from look import Look

from taskqueue_core.states import CANCELLABLE, RETRYABLE, TERMINAL, TaskState

LEASE_MS = 15_000
GRACE_MS = LEASE_MS // 3 + 1000
MAX_LOST = 3
FORGOTTEN_MS = 10_000
RETENTION_MS = 7 * 86_400_000
DEAD_RETENTION_MS = 30 * 86_400_000
BACKLOG = 12
#: A held task is looked at again so much later, and given up when it was held for so long.
HOLD_MS = 5_000
HELD_MS = 60_000

S = TaskState
Fence = tuple[int, str]


@dataclass
class ModelTask:
    """One task as it should be. ``fence`` names its latest delivery."""

    digits: str
    type: str
    priority: int
    state: TaskState
    due: int = 0
    attempts: int = 0
    lost: int = 0
    fence: Fence = (0, "")
    consumer: str = ""
    age: int = 0
    is_forgiven: bool = False
    ended: int = 0
    held_since: int | None = None
    entry: int = 0
    is_asked_to_stop: bool = False

    @property
    def is_held(self) -> bool:
        """Tell whether it is put aside for want of a handler."""
        return self.state is S.SCHEDULED and self.held_since is not None

    @property
    def rank(self) -> tuple[int, int, str]:
        """Return what held tasks are ordered by."""
        return (-self.priority, self.held_since or 0, self.digits)


@dataclass
class Model:
    """The whole namespace."""

    now: int
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    waiting: list[list[str]] = field(default_factory=lambda: [[], [], [], []])
    #: Worker -> types that its heartbeats have named.
    types: dict[str, frozenset[str]] = field(default_factory=dict)
    heartbeat: int = 0
    grace: int = 0
    entries: int = 0
    #: Priorities of which no task starts.
    paused: set[int] = field(default_factory=set)
    #: When a priority was last resumed.
    resumed: dict[int, int] = field(default_factory=dict)
    #: Idempotency key -> request and task. They live by Redis' own clock: here for ever.
    records: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def in_state(self, *states: TaskState) -> list[ModelTask]:
        """Return the tasks in one of the states."""
        return [task for task in self.tasks.values() if task.state in states]

    def backlog(self) -> int:
        """Return the number of unfinished tasks."""
        return sum(task.state not in TERMINAL for task in self.tasks.values())

    def look(self) -> Look:
        """Return what a look at the broker must find."""
        held: dict[str, list[str]] = {}
        for task in sorted((t for t in self.tasks.values() if t.is_held), key=lambda t: t.rank):
            held.setdefault(task.type, []).append(task.digits)
        ended = {t.digits: t.ended for t in self.in_state(S.COMPLETED, S.CANCELLED, S.FAILED)}
        return Look(
            tasks={
                t.digits: (t.state, t.attempts, t.lost, t.fence, t.is_asked_to_stop)
                for t in self.tasks.values()
            },
            waiting=self.waiting,
            running={t.digits: t.consumer for t in self.in_state(S.RUNNING)},
            scheduled={t.digits: t.due for t in self.in_state(S.SCHEDULED, S.RETRYING)},
            done={digits: end + RETENTION_MS for digits, end in ended.items()},
            dead={t.digits: t.ended for t in self.in_state(S.DEAD_LETTER)},
            held=held,
            backlog=self.backlog(),
        )

    def submit(self, digits: str, task_type: str, priority: int, due: int | None) -> bool:
        """Accept a task, or not because the backlog is full; one that is there already stays."""
        if digits in self.tasks:
            return True
        if self.backlog() >= BACKLOG:
            return False
        is_later = due is not None and due > self.now
        state = S.SCHEDULED if is_later else S.PENDING
        task = self.tasks[digits] = ModelTask(digits, task_type, priority, state, due=due or 0)
        if not is_later:
            self.enqueue(task)
        return True

    def submit_with_key(self, key: str, body: bytes, digits: str) -> str | None:
        """Return the task of the key, made now if need be; "" without room, None for another's."""
        known_body, known_digits = self.records.get(key, (body, digits))
        if known_body != body:
            return None
        if known_digits not in self.tasks:
            if not self.submit(known_digits, "a", 1, None):
                return ""
            self.records[key] = body, known_digits
        return known_digits

    def enqueue(self, task: ModelTask) -> None:
        """Put a task at the end of its queue."""
        self.entries += 1
        task.state, task.entry = S.PENDING, self.entries
        self.waiting[task.priority].append(task.digits)

    def promote(self, limit: int) -> None:
        """Move due tasks to their queues, earliest first."""
        due = [t for t in self.in_state(S.SCHEDULED, S.RETRYING) if t.due <= self.now]
        for task in sorted(due, key=lambda t: (t.due, t.digits))[:limit]:
            self.enqueue(task)

    def fetch(self, consumer: str, instance: str, wanted: int) -> list[str]:
        """Hand out tasks by priority, first come first served."""
        self.promote(20)
        types = self.types.get(consumer, frozenset())
        held = [task for task in self.tasks.values() if task.is_held and task.type in types]
        held = [task for task in held if task.priority not in self.paused]
        for task in sorted(held, key=lambda t: t.rank)[:wanted]:
            self.enqueue(task)
        taken: list[str] = []
        for priority, queue in reversed(list(enumerate(self.waiting))):
            while queue and len(taken) < wanted and priority not in self.paused:
                task = self.tasks[queue.pop(0)]
                task.state = S.RUNNING
                task.attempts += 1
                task.fence = (task.fence[0] + 1, instance)
                task.consumer, task.age = consumer, 0
                taken.append(task.digits)
        return taken

    def fetch_again(self, given: list[tuple[str, Fence]]) -> list[str]:
        """Answer a request once more: with what it gave, as far as that is still the worker's."""
        self.promote(20)
        return [digits for digits, fence in given if self.owned(digits, fence)]

    def owned(self, digits: str, fence: Fence) -> ModelTask | None:
        """Return the running task if this delivery is its latest."""
        task = self.tasks.get(digits)
        if task and task.state is S.RUNNING and task.fence == fence:
            return task
        return None

    def end(self, task: ModelTask, state: TaskState) -> None:
        """Finish a task."""
        task.state, task.ended, task.is_asked_to_stop = state, self.now, False

    def fail(self, task: ModelTask, max_retries: int, delay: int) -> None:
        """Retry later, or give up."""
        task.held_since = None
        if task.is_asked_to_stop:
            self.end(task, S.CANCELLED)
        elif task.attempts > max_retries:
            self.end(task, S.DEAD_LETTER)
        else:
            task.state, task.due = S.RETRYING, self.now + delay

    def drop(self, task: ModelTask) -> None:
        """End a task as its handler wished."""
        task.held_since = None
        self.end(task, S.CANCELLED if task.is_asked_to_stop else S.FAILED)

    def release(self, task: ModelTask) -> None:
        """Give an attempt back; a task that was asked to stop does not wait again."""
        task.attempts -= 1
        if task.is_asked_to_stop:
            self.end(task, S.CANCELLED)
        else:
            self.enqueue(task)

    def hold(self, task: ModelTask) -> None:
        """Put aside until a worker that can run it asks, or give up."""
        if task.is_asked_to_stop:
            self.release(task)
            return
        task.attempts -= 1
        task.held_since = self.now if task.held_since is None else task.held_since
        if self.now > task.held_since + HELD_MS:
            task.held_since = max(task.held_since, self.resumed.get(task.priority, 0))
        left = task.held_since + HELD_MS - self.now
        if left < 0:
            self.end(task, S.DEAD_LETTER)
        else:
            task.state, task.due = S.SCHEDULED, self.now + max(50, min(HOLD_MS, left + 1))

    def beat(
        self, consumer: str, instance: str, named: set[tuple[str, int]], types: frozenset[str]
    ) -> None:
        """Renew what is named, give back what is not."""
        if self.heartbeat and self.now - self.heartbeat > LEASE_MS:
            self.grace = self.now + GRACE_MS
        self.heartbeat = self.now
        self.types[consumer] = types
        own = [t for t in self.in_state(S.RUNNING) if t.fence[1] == instance]
        for task in own:
            if (task.digits, task.fence[0]) in named:
                task.consumer, task.age = consumer, 0
        forgotten = [t for t in own if t.consumer == consumer and t.age >= FORGOTTEN_MS]
        for task in sorted(forgotten, key=lambda t: t.entry):
            self.release(task)

    def recover(self, consumer: str, instance: str) -> set[str]:
        """Take over what has lapsed, unless the broker itself was away."""
        if self.now - self.heartbeat > LEASE_MS or self.now < self.grace:
            return set()
        is_counted = self.now > self.grace + LEASE_MS
        taken = set()
        for task in sorted(self.in_state(S.RUNNING), key=lambda t: t.entry):
            if task.age < LEASE_MS:
                continue
            if not is_counted and not task.is_forgiven:
                task.is_forgiven = True
            else:
                task.lost += 1
            if task.is_asked_to_stop:
                self.release(task)
            elif task.lost >= MAX_LOST:
                task.attempts -= 1
                self.end(task, S.DEAD_LETTER)
            elif task.priority in self.paused:
                self.release(task)
            else:
                task.fence = (task.fence[0] + 1, instance)
                task.consumer, task.age = consumer, 0
                taken.add(task.digits)
        return taken

    def cancel(self, task: ModelTask) -> bool:
        """Cancel a task that has not started."""
        if task.state not in CANCELLABLE:
            return False
        if task.state is S.PENDING:
            self.waiting[task.priority].remove(task.digits)
        self.end(task, S.CANCELLED)
        return True

    def stop(self, task: ModelTask) -> bool:
        """Cancel a task that has not started, and have one that runs asked to stop."""
        task.is_asked_to_stop = task.state is S.RUNNING
        return task.is_asked_to_stop or self.cancel(task)

    def restart(self, task: ModelTask) -> bool:
        """Send an ended task back as if new."""
        if task.state not in RETRYABLE:
            return False
        task.attempts = task.lost = 0
        task.is_forgiven, task.held_since = False, None
        self.enqueue(task)
        return True

    def purge(self, priority: int) -> int:
        """Cancel what waits at a priority."""
        purged = list(self.waiting[priority])
        for digits in purged:
            self.cancel(self.tasks[digits])
        return len(purged)

    def retain(self) -> None:
        """Forget ended tasks whose time is over."""
        for task in list(self.tasks.values()):
            kept = DEAD_RETENTION_MS if task.state is S.DEAD_LETTER else RETENTION_MS
            if task.state in TERMINAL and self.now - task.ended >= kept:
                del self.tasks[task.digits]
