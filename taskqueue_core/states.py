"""The life cycle of a task: its states, where each keeps the task, and the allowed moves.

The broker's Lua scripts implement this table; ``tests/broker/test_state_table.py`` runs every
script against a task in every state and compares what happens with ``TRANSITIONS``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """State of a task, spelled as clients see it."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DEAD_LETTER = "dead_letter"


class Place(StrEnum):
    """The one structure of the broker that holds a task while it is in a state."""

    STREAM = "stream"
    PENDING_LIST = "pending_list"
    SCHEDULE = "schedule"
    DONE = "done"
    DEAD_LETTERS = "dead_letters"


_S = TaskState

#: Task state -> the structure that holds it. ``audit`` checks it over a whole namespace.
PLACES: Final[dict[TaskState, Place]] = {
    _S.PENDING: Place.STREAM,
    _S.RUNNING: Place.PENDING_LIST,
    _S.SCHEDULED: Place.SCHEDULE,
    _S.RETRYING: Place.SCHEDULE,
    _S.COMPLETED: Place.DONE,
    _S.CANCELLED: Place.DONE,
    _S.FAILED: Place.DONE,
    _S.DEAD_LETTER: Place.DEAD_LETTERS,
}

#: (script, state before) -> the states it may leave the task in. ``None`` before: no such task
#: yet; ``None`` after: the task is deleted. A pair that is not listed changes nothing.
TRANSITIONS: Final[dict[tuple[str, TaskState | None], frozenset[TaskState | None]]] = {
    ("submit", None): frozenset({_S.PENDING, _S.SCHEDULED}),
    ("fetch", _S.PENDING): frozenset({_S.RUNNING}),
    ("fetch", _S.SCHEDULED): frozenset({_S.PENDING, _S.RUNNING}),
    ("fetch", _S.RETRYING): frozenset({_S.PENDING, _S.RUNNING}),
    ("promote", _S.SCHEDULED): frozenset({_S.PENDING}),
    ("promote", _S.RETRYING): frozenset({_S.PENDING}),
    ("complete", _S.RUNNING): frozenset({_S.COMPLETED}),
    ("fail", _S.RUNNING): frozenset({_S.RETRYING, _S.DEAD_LETTER, _S.FAILED, _S.CANCELLED}),
    ("release", _S.RUNNING): frozenset({_S.PENDING, _S.CANCELLED}),
    ("hold", _S.RUNNING): frozenset({_S.SCHEDULED, _S.DEAD_LETTER, _S.CANCELLED}),
    ("heartbeat", _S.RUNNING): frozenset({_S.RUNNING, _S.PENDING, _S.CANCELLED}),
    ("recover", _S.RUNNING): frozenset({_S.RUNNING, _S.PENDING, _S.DEAD_LETTER, _S.CANCELLED}),
    ("cancel", _S.PENDING): frozenset({_S.CANCELLED}),
    ("cancel", _S.SCHEDULED): frozenset({_S.CANCELLED}),
    ("cancel", _S.RETRYING): frozenset({_S.CANCELLED}),
    ("cancel", _S.RUNNING): frozenset({_S.RUNNING}),
    ("retry", _S.FAILED): frozenset({_S.PENDING}),
    ("retry", _S.CANCELLED): frozenset({_S.PENDING}),
    ("retry", _S.DEAD_LETTER): frozenset({_S.PENDING}),
    ("redrive", _S.DEAD_LETTER): frozenset({_S.PENDING}),
    ("purge", _S.PENDING): frozenset({_S.CANCELLED}),
    ("clear", _S.DEAD_LETTER): frozenset({_S.FAILED}),
    ("retain", _S.COMPLETED): frozenset({None}),
    ("retain", _S.CANCELLED): frozenset({None}),
    ("retain", _S.FAILED): frozenset({None}),
    ("retain", _S.DEAD_LETTER): frozenset({None}),
    ("repair", _S.PENDING): frozenset({_S.PENDING}),
    ("repair", _S.RUNNING): frozenset({_S.RUNNING, _S.PENDING, _S.CANCELLED}),
}

#: No handler will run the task again unless somebody asks for it.
TERMINAL: Final = frozenset({_S.COMPLETED, _S.CANCELLED, _S.FAILED, _S.DEAD_LETTER})

#: States that ``DELETE /api/v1/tasks/{id}`` may cancel at once. A running task is asked to stop,
#: and is cancelled by whoever ends its attempt.
CANCELLABLE: Final = frozenset({_S.PENDING, _S.SCHEDULED, _S.RETRYING})

#: States that ``POST /admin/tasks/{id}/retry`` may send back to the queue.
RETRYABLE: Final = frozenset({_S.FAILED, _S.DEAD_LETTER, _S.CANCELLED})
