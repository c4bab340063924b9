"""Events: what happened to tasks and workers, in the order of the transitions.

The scripts append one packed entry per call to the event stream; ``unpack`` turns it into
``Event`` values, which render as the JSON object clients receive.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from taskqueue_core.codec import format_time
from taskqueue_core.keys import id_from_hex
from taskqueue_core.models import Priority
from taskqueue_core.states import TaskState

#: State letters as the task hash holds them.
STATE_LETTERS: Final[dict[str, TaskState]] = {
    "p": TaskState.PENDING,
    "s": TaskState.SCHEDULED,
    "r": TaskState.RUNNING,
    "y": TaskState.RETRYING,
    "c": TaskState.COMPLETED,
    "x": TaskState.CANCELLED,
    "f": TaskState.FAILED,
    "d": TaskState.DEAD_LETTER,
}


class Event(msgspec.Struct, frozen=True):
    """One event. ``sequence`` numbers events densely within a partition."""

    sequence: int
    type: str
    timestamp_ms: int
    data: dict[str, Any]
    partition: int = 0

    def encode(self, cursor: str) -> bytes:
        """Return the event as one JSON object with ``cursor`` as its id."""
        return msgspec.json.encode(
            {
                "type": self.type,
                "timestamp": format_time(self.timestamp_ms),
                "data": self.data,
                "id": cursor,
            }
        )


def unpack(last: int, packed: bytes) -> list[Event]:
    """Return the events of one stream entry whose last event has the number ``last``.

    The layout is the prelude's ``emit``: ``[now, record, ...]``, a task's record being ``[event,
    id, type, priority, state, attempts, {more}]`` and a worker's ``[event, worker, {more}]``.
    """
    now, *records = msgspec.msgpack.decode(packed)
    first = last - len(records) + 1
    return [
        Event(first + index, record[0], now, _data(record)) for index, record in enumerate(records)
    ]


def _data(record: list[Any]) -> dict[str, Any]:
    if record[0].startswith("worker."):
        return {"worker_id": record[1], **record[2]}
    _, digits, task_type, priority, letter, attempts, *rest = record
    data = {
        "task_id": id_from_hex(digits),
        "type": task_type,
        "priority": Priority(priority).label,
        "state": STATE_LETTERS[letter],
        "attempts": attempts,
    }
    for name, value in rest[0].items() if rest else ():
        data[name] = format_time(value) if name.endswith("_at") else value
    return data
