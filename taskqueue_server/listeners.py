"""Frames for listeners, and a bounded buffer of them for each.

A listener that reads too slowly loses events and is told how many, at the place of the loss; it
never slows another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from taskqueue_core.codec import format_time
from taskqueue_core.events import GAP, Event, gap_event
from taskqueue_server.framing import text_frame
from taskqueue_server.selection import Selection

#: Answers that may wait for one listener, before it is sent away.
MAX_REPLIES: Final = 32
#: Frames handed over at once; between two hand-overs other work gets its turn.
BATCH: Final = 128

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013


class Frame:
    """One text frame for clients, encoded once for all of them.

    ``wire`` is ``body`` as it goes over a connection. ``partition`` is -1 where the frame is no
    part of the event stream, ``missed`` how many events are missing where it is a gap.
    """

    __slots__ = ("body", "missed", "owner", "partition", "task_id", "type", "wire")

    def __init__(
        self,
        event_type: str,
        body: bytes,
        *,
        partition: int = -1,
        task_id: str = "",
        owner: str = "",
        missed: int = 0,
    ) -> None:
        self.type = event_type
        self.body = body
        self.wire = text_frame(body)
        self.partition = partition
        self.task_id = task_id
        self.owner = owner
        self.missed = missed


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a connection."""

    code: int


def make_frame(event_type: str, timestamp_ms: int, data: Mapping[str, Any]) -> Frame:
    """Return a frame that is not part of the event stream, so without an id."""
    body = {"type": event_type, "timestamp": format_time(timestamp_ms), "data": data}
    return Frame(event_type, msgspec.json.encode(body))


def event_frame(event: Event, cursor: str) -> Frame:
    """Return the frame of an event; ``cursor`` is its id, which a gap has none of."""
    return Frame(
        event.type,
        event.encode("" if event.type == GAP else cursor),
        partition=event.partition,
        task_id=event.task_id,
        owner=event.owner,
        missed=event.data["missed"] if event.type == GAP else 0,
    )


class Subscriber:
    """The buffer of one listener, who gets what its selection wants."""

    def __init__(self, capacity: int, selection: Selection | None = None) -> None:
        self.selection = selection or Selection()
        self.capacity = capacity
        self._waiting: deque[Frame | _Gap | Close] = deque()
        self._replies = 0
        self._is_closed = False
        self._ready = asyncio.Event()
        self._has_room = asyncio.Event()

    def offer(self, frames: Sequence[Frame], timestamp_ms: int) -> None:
        """Add what is wanted of these events; where the buffer is full, count it as missed."""
        if self._is_closed:
            return
        if not self.selection.is_everything:
            frames = [frame for frame in frames if self.selection.wants(frame)]
        room = max(0, self.capacity - len(self._waiting))
        self._waiting.extend(frames[:room])
        if missed := sum(map(_count, frames[room:])):
            self._miss(missed, timestamp_ms)
        if self._waiting:
            self._ready.set()

    def has_room(self, number: int) -> bool:
        """Tell whether so many frames find room now."""
        return len(self._waiting) + number <= self.capacity

    async def room(self, number: int) -> None:
        """Wait until so many frames find room."""
        while not self.has_room(number):
            self._has_room.clear()
            await self._has_room.wait()

    def reply(self, frame: Frame) -> None:
        """Add an answer behind what already waits; a listener that reads none is sent away."""
        if self._is_closed:
            return
        self._replies += 1
        if self._replies > MAX_REPLIES:
            self.close(POLICY_VIOLATION)
        else:
            self._waiting.append(frame)
            self._ready.set()

    def close(self, code: int = GOING_AWAY) -> None:
        """End the connection; what waits is dropped."""
        self._is_closed = True
        self._waiting.clear()
        self._waiting.append(Close(code))
        self._ready.set()

    async def take(self) -> list[Frame | Close]:
        """Return what waits, in order, as soon as there is something."""
        await self._ready.wait()
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        if not self._waiting:
            self._ready.clear()
            self._replies = 0
        self._has_room.set()
        return [item.frame() if isinstance(item, _Gap) else item for item in batch]

    def _miss(self, missed: int, timestamp_ms: int) -> None:
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, _Gap):
            last.missed += missed
        else:
            self._waiting.append(_Gap(missed, timestamp_ms))


@dataclass(slots=True)
class _Gap:
    """The place where ``missed`` events are lost."""

    missed: int
    timestamp_ms: int

    def frame(self) -> Frame:
        return event_frame(gap_event(0, self.timestamp_ms, self.missed, "slow"), "")


def _count(frame: Frame) -> int:
    """Return how many events of the stream are lost with a frame."""
    return frame.missed or (frame.partition >= 0)
