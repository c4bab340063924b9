"""Events: what happened to tasks and workers, in the order of the transitions.

The scripts append one packed entry per call to the event stream; ``unpack`` turns it into
``Event`` values, which render as the JSON object clients receive. A ``Cursor`` says how far a
reader has come, in a text that clients hand back.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Any, Final, Literal

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


#: Type of the event that stands where events are missing.
GAP: Final = "events.gap"

#: Digits of the epoch in a mark, see ``mark_of``.
_EPOCH_DIGITS: Final = 6

#: Why events are missing: they were deleted before the reader came; the stream began again or
#: lost its end, so that what was read of it does not hold; the reader did not keep up.
GapReason = Literal["trimmed", "restarted", "slow"]


class Event(msgspec.Struct, frozen=True):
    """One event. ``sequence`` numbers events densely within a partition.

    ``owner`` is that of its task: whoever has another one is not told of it. ``mark`` tells the
    history that the number belongs to from every other, see ``mark_of``.
    """

    sequence: int
    type: str
    timestamp_ms: int
    data: dict[str, Any]
    partition: int = 0
    owner: str = ""
    mark: str = ""

    @property
    def task_id(self) -> str:
        """Return the task that the event is about, "" where it is about none."""
        task_id: str = self.data.get("task_id", "")
        return task_id

    def encode(self, cursor: str) -> bytes:
        """Return the event as one JSON object with ``cursor`` as its id, "" for none."""
        body = {
            "type": self.type,
            "timestamp": format_time(self.timestamp_ms),
            "data": self.data,
        }
        if cursor:
            body["id"] = cursor
        return msgspec.json.encode(body)


def gap_event(
    sequence: int,
    timestamp_ms: int,
    missed: int,
    reason: GapReason,
    *,
    partition: int = 0,
    mark: str = "",
) -> Event:
    """Return the event that says that ``missed`` events up to ``sequence`` are not to be had.

    Those of a stream that was ``restarted`` are the ones that were read of the one before.
    """
    data = {"missed": missed, "reason": reason}
    return Event(sequence, GAP, timestamp_ms, data, partition, mark=mark)


def mark_of(epoch_ms: int, packed: bytes = b"") -> str:
    """Return what tells a place in the stream from one of the same number in another history.

    That is the time at which the numbers began, and a checksum of the place's entry: a replica
    that was promoted may give numbers again under the same epoch.
    """
    begin = f"{epoch_ms & 0xFFFFFF:06x}"
    return f"{begin}{zlib.crc32(packed) & 0xFFFF:04x}" if packed else begin


def unpack(
    last: int, packed: bytes, *, after: int = 0, partition: int = 0, mark: str = ""
) -> list[Event]:
    """Return the events of one stream entry whose last event has the number ``last``.

    Only those behind the number ``after``. The layout is that of ``events.lua``: ``[now, record,
    ...]``, a task's record being ``[event, id, type, priority, state, attempts, {more}]``, a
    worker's ``[event, worker, {more}]``, and a priority's ``[event, priority]``. The owner of a
    task is in ``more``, if it has one.
    """
    now, *records = msgspec.msgpack.decode(packed)
    first = last - len(records) + 1
    skipped = max(0, after + 1 - first)
    return [
        _event(first + skipped + index, now, record, partition, mark)
        for index, record in enumerate(records[skipped:])
    ]


def _event(sequence: int, timestamp_ms: int, record: list[Any], partition: int, mark: str) -> Event:
    data = _data(record)
    owner = data.pop("owner", "")
    return Event(sequence, record[0], timestamp_ms, data, partition, owner, mark)


def _data(record: list[Any]) -> dict[str, Any]:
    if record[0].startswith("worker."):
        return {"worker_id": record[1], **record[2]}
    if record[0].startswith("queue."):
        return {"priority": Priority(record[1]).label}
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


class Position(msgspec.Struct, frozen=True):
    """How far a reader is in one partition: the number of the last event it has, 0 without one.

    ``mark`` is that event's, or only its first part, the epoch's, where the entry is not known.
    """

    number: int = 0
    mark: str = ""

    def covers(self, other: Position) -> bool:
        """Tell whether a reader here has all that one at ``other`` has, in the same history."""
        is_same = self.mark[:_EPOCH_DIGITS] == other.mark[:_EPOCH_DIGITS]
        return not other.number or (is_same and self.number >= other.number)

    def __str__(self) -> str:
        return f"{self.mark}-{self.number}" if self.number else "0"


_POSITION: Final = re.compile(r"([0-9a-f]{6}(?:[0-9a-f]{4})?)-([1-9][0-9]{0,15})")


class Cursor:
    """How far a reader is in every partition; as text it is the id of the last event it has."""

    def __init__(self, positions: Iterable[Position]) -> None:
        self.positions = list(positions)
        self._texts = [str(position) for position in self.positions]

    @classmethod
    def parse(cls, text: str, partitions: int) -> Cursor:
        """Return the cursor that an event of this namespace has as its id.

        Raises:
            ValueError: it is none.
        """
        parts = text.split(".", partitions)
        if len(parts) != partitions:
            raise ValueError("is not the id of an event")
        return cls(map(_parse_position, parts))

    def advance(self, event: Event) -> None:
        """Note that the reader has ``event``, and all before it in its partition."""
        self.place(event.partition, Position(event.sequence, event.mark))

    def place(self, partition: int, position: Position) -> None:
        """Move the place in one partition."""
        self.positions[partition] = position
        self._texts[partition] = str(position)

    def covers(self, other: Cursor, partition: int | None = None) -> bool:
        """Tell whether a reader here has all that one there has, in one partition or in all."""
        pairs = enumerate(zip(self.positions, other.positions, strict=True))
        return all(here.covers(there) for n, (here, there) in pairs if partition in (None, n))

    def lacks(self, event: Event) -> bool:
        """Tell whether a reader here does not have ``event``; nobody has a stream's new begin."""
        is_restart = event.type == GAP and event.data["reason"] == "restarted"
        return is_restart or event.sequence > self.positions[event.partition].number

    def copy(self) -> Cursor:
        """Return a cursor of the same place."""
        return Cursor(self.positions)

    def __str__(self) -> str:
        return ".".join(self._texts)


def _parse_position(text: str) -> Position:
    if text == "0":
        return Position()
    found = _POSITION.fullmatch(text)
    if found is None:
        raise ValueError("is not the id of an event")
    return Position(int(found[2]), found[1])
