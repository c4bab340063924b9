"""The nouns of the service as plain values: no I/O, no clocks.

Times are integers in milliseconds since 1970 UTC by the broker's clock (``*_at_ms``); payloads,
metadata and results are JSON as bytes, exactly as they came.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

import msgspec

from taskqueue_core.states import TaskState

#: Names of task types, queues and workers (WIRE: nothing else can become part of a key).
NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
_NAME = re.compile(NAME_PATTERN[1:-1])

DEFAULT_QUEUE: Final = "default"

#: What an API key or a token may allow. ``admin`` allows everything.
SCOPES: Final = ("tasks:read", "tasks:write", "metrics", "admin")


def is_name(text: str) -> bool:
    """Tell whether ``text`` may name a task type, a queue or a worker."""
    return _NAME.fullmatch(text) is not None


class Priority(IntEnum):
    """Priority of a task: an integer in requests, its ``label`` in answers."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def label(self) -> str:
        """Return the lower-case name clients see."""
        return self.name.lower()


class Idempotency(msgspec.Struct, frozen=True):
    """What tells a submission that is sent again: the name of its record (32 hexadecimal digits),
    and the SHA-256 of all that was sent.
    """

    record: str
    fingerprint: bytes


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that has passed validation. ``None`` means "not sent".

    ``owner`` is a name, or empty: who has one sees tasks of that owner only. ``idempotency`` comes
    with an id of its own, see ``IdempotencyKey``. ``traceparent`` is the W3C trace context of who
    submits it; what is none is not kept.
    """

    id: str
    type: str
    payload: bytes = b"{}"
    metadata: bytes = b""
    priority: Priority = Priority.NORMAL
    queue: str = DEFAULT_QUEUE
    max_retries: int | None = None
    timeout_seconds: int | None = None
    scheduled_at_ms: int | None = None
    owner: str = ""
    idempotency: Idempotency | None = None
    traceparent: str = ""


class Submitted(msgspec.Struct, frozen=True):
    """What the broker answers to an accepted submission.

    ``is_repeat`` says that another submission with the same idempotency key has made this task; it
    is answered as it was then, and its ``id`` is not the one that was asked for.
    """

    id: str
    state: TaskState
    created_at_ms: int
    is_repeat: bool = False


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it is stored. Absent values are ``None`` or empty.

    ``is_held`` says that it is scheduled for want of a handler only.
    """

    id: str
    type: str
    queue: str
    priority: Priority
    state: TaskState
    created_at_ms: int
    updated_at_ms: int
    attempts: int = 0
    deliveries: int = 0
    lost_leases: int = 0
    max_retries: int | None = None
    timeout_seconds: int | None = None
    payload: bytes = b"{}"
    metadata: bytes = b""
    result: bytes = b""
    error: str = ""
    worker_id: str = ""
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    scheduled_at_ms: int | None = None
    next_retry_at_ms: int | None = None
    reason: str = ""
    owner: str = ""
    is_cancel_requested: bool = False
    is_held: bool = False
    traceparent: str = ""

    @property
    def is_waiting(self) -> bool:
        """Tell whether a worker may start it now, also one that was put aside for one that can."""
        return self.state is TaskState.PENDING or self.is_held


class Delivery(msgspec.Struct, frozen=True):
    """One task handed to one worker: what the handler needs and what proves the ownership.

    ``number`` counts deliveries of the task; together with the worker's instance id it is the
    fence that every later call of this worker must show. ``digits`` is the id as keys hold it.
    One that ``is_recovered`` comes from another worker, not from its queue.
    """

    digits: str
    entry_id: str
    queue: str
    priority: int
    type: str
    number: int
    attempts: int
    lost_leases: int
    timeout_seconds: int | None
    max_retries: int | None
    body: bytes
    fetched_at_ms: int
    enqueued_at_ms: int
    partition: int = 0
    is_recovered: bool = False


class OutcomeKind(IntEnum):
    """What became of a delivery; the numbers are part of the scripts' interface."""

    COMPLETE = 1
    FAIL = 2
    RELEASE = 3
    HOLD = 4


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one delivery, reported by the worker that ran it.

    ``value`` is the JSON result (COMPLETE) or the error text (FAIL). For FAIL: ``delay_ms`` and
    ``max_retries`` decide between retrying and the dead letters, ``reason`` is kept with a dead
    letter, ``is_dropped`` ends in ``failed`` instead, ``history`` is the attempt's JSON record.
    For HOLD (no handler here): after ``delay_ms`` any worker looks at the task again, unless one
    that has a handler has asked for it before, and ``duration_ms`` is the longest that it may be
    held before it becomes a dead letter.
    """

    delivery: Delivery
    kind: OutcomeKind
    duration_ms: int = 0
    value: bytes = b""
    delay_ms: int = 0
    max_retries: int = 0
    reason: str = ""
    is_dropped: bool = False
    history: bytes = b""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt, as its worker recorded it; ``delivery`` counts every start of the task."""

    attempt: int
    delivery: int
    worker_id: str
    started_at_ms: int
    ended_at_ms: int
    error: str
    traceback: str = ""


class OutcomeStatus(IntEnum):
    """How the broker took an outcome."""

    ACCEPTED = 1
    ALREADY = 2
    STALE = 0


class LeaseStatus(IntEnum):
    """What a heartbeat says about one task the worker holds."""

    HELD = 1
    LOST = 0
    CANCEL_REQUESTED = 2


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's answer to a worker: how its outcomes were taken, and what to run next.

    ``is_known`` is false when the worker's registration is gone and must be made again;
    ``next_due_ms`` is the wait until the earliest scheduled task is due, ``None`` without one.
    """

    deliveries: list[Delivery]
    statuses: list[OutcomeStatus]
    now_ms: int
    next_due_ms: int | None
    queues_version: int
    is_known: bool
    is_paused: bool


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A live worker as it last reported itself.

    ``process`` is its process id and host name, separated by a space; ``busy_seconds`` and
    ``idle_seconds`` are how long its slots have had a task and none, all slots together.
    """

    id: str
    instance: str
    state: str
    started_at_ms: int
    last_heartbeat_ms: int
    active_tasks: int
    concurrency: int
    version: str
    queues: tuple[str, ...] = ()
    handlers: bytes = b"{}"
    process: str = ""
    completed_per_second: float = 0.0
    failed_per_second: float = 0.0
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0


class RunningTask(msgspec.Struct, frozen=True):
    """A task that a worker runs, since when."""

    id: str
    type: str
    started_at_ms: int


class HandlerInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker publishes about one handler with its registration.

    ``schemas`` names the JSON Schemas of payload and result that it publishes apart: the same name
    stands for the same schemas. Without one anything goes.
    """

    queue: str = DEFAULT_QUEUE
    timeout_seconds: int | None = None
    max_retries: int | None = None
    distribution: str = ""
    version: str = ""
    executor: str = ""
    schemas: str = ""


class Depth(msgspec.Struct, frozen=True):
    """Entries of one priority: ``queued`` are waiting or running, ``pending_unacked`` running.

    ``is_paused`` says that no task of it starts, in one partition at least.
    """

    queued: int
    pending_unacked: int
    is_paused: bool = False


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """Depths per priority over all queues, and the sizes of the schedule and the dead letters."""

    depths: dict[Priority, Depth]
    scheduled_count: int
    dead_letter_count: int
    backlog: int


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What waits at one moment.

    ``oldest_ms`` is how long the oldest of a priority has waited in its queue, 0 where nothing
    does; ``waiting`` counts tasks by queue, ``held`` those put aside by type. It is not complete
    where there are so many of these types that only some were counted.
    """

    oldest_ms: dict[Priority, int]
    waiting: dict[str, int]
    held: dict[str, int]
    is_complete: bool = True


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """What one primary Redis says of itself; ``max_bytes`` is 0 where memory has no limit."""

    has_log: bool
    can_write_log: bool
    used_bytes: int
    max_bytes: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is out of retries, with the time of its death."""

    task: Task
    added_at_ms: int

    @property
    def message_id(self) -> str:
        """Return an id that names this death of the task: its time and delivery number."""
        return f"{self.added_at_ms}-{self.task.deliveries}"
