"""Past events: what a reader that comes back has missed, page by page.

Each page begins where the one before ended. What cannot be had any more is said by a gap that
names how many, at their place.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from taskqueue_core.broker.clients import together
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.events import Cursor, Event, Position, gap_event, mark_of, unpack
from taskqueue_core.keys import Keys

#: What ``history.lua`` answers before the entries.
_HEAD: Final = 3


class Page(msgspec.Struct, frozen=True):
    """Some events, each with the place behind it, as the text that a reader may come back with.

    ``cursor`` is the place behind them; ``is_last`` when there was nothing behind it.
    """

    events: list[tuple[Event, str]]
    cursor: Cursor
    is_last: bool


class _Part(msgspec.Struct):
    """What one partition has to say behind ``start``."""

    start: Position
    events: list[Event]
    is_last: bool = False


class EventHistory:
    """Reads of the events that one Redis namespace keeps."""

    def __init__(self, scripts: Scripts, partitions: Sequence[Keys]) -> None:
        self._scripts = scripts
        self._partitions = partitions

    async def now(self) -> Cursor:
        """Return the place behind the latest event of every partition."""
        calls = [partial(self._call, keys, 0, 0) for keys in self._partitions]
        return Cursor(Position(last, mark_of(epoch)) for last, epoch, *_ in await together(calls))

    async def read(self, after: Cursor | None, limit: int, *, partition: int | None = None) -> Page:
        """Return up to ``limit`` events behind a place, of one partition or all, ordered by time.

        Without a place: from the oldest that is kept. An event that does not hold any more, or
        was never there, is a place all the same: a gap says so.
        """
        chosen = [keys for keys in self._partitions if partition in (None, keys.partition)]
        places = after.positions if after else [None] * len(self._partitions)
        parts = await together(
            [partial(self._read, keys, places[keys.partition], limit) for keys in chosen]
        )
        cursor = after.copy() if after else Cursor([Position()] * len(self._partitions))
        for keys, part in zip(chosen, parts, strict=True):
            cursor.place(keys.partition, part.start)
        merged = heapq.merge(*(part.events for part in parts), key=lambda event: event.timestamp_ms)
        events = []
        for event in islice(merged, limit):
            cursor.advance(event)
            events.append((event, str(cursor)))
        is_last = sum(len(part.events) for part in parts) == len(events)
        return Page(events, cursor, is_last and all(part.is_last for part in parts))

    async def _read(self, keys: Keys, place: Position | None, limit: int) -> _Part:
        """Read on in one partition until there are ``limit`` events, or no more."""
        number = place.number if place else 0
        reply = await self._call(keys, number, limit)
        part = _Part(place or _oldest(reply), [])
        if place and not _holds(place, reply):
            now_ms = reply[2]
            lost = gap_event(0, now_ms, number, "restarted", partition=keys.partition)
            part.events.append(lost)
            number = 0
            reply = await self._call(keys, number, limit)
        elif place is None:
            number = part.start.number
        while True:
            new, part.is_last = _unpacked(keys, number, limit, reply)
            part.events += new
            if part.is_last or len(part.events) >= limit:
                return part
            number = part.events[-1].sequence
            reply = await self._call(keys, number, limit)

    async def _call(self, keys: Keys, number: int, limit: int) -> list[Any]:
        reply: list[Any] = await self._scripts.call("history", [keys.meta], [number, limit])
        return reply


def _oldest(reply: Sequence[Any]) -> Position:
    """Return the place before the first event that is kept."""
    last, epoch, _, *entries = reply
    number = unpack(entries[0], entries[1])[0].sequence - 1 if entries else last
    return Position(number, mark_of(epoch))


def _holds(place: Position, reply: Sequence[Any]) -> bool:
    """Tell whether a place is one of the stream that the reply is from."""
    last, epoch, _, *entries = reply
    begin = mark_of(epoch)
    if not place.number:
        return True
    if place.number > last or not place.mark.startswith(begin):
        return False
    is_kept = entries and unpack(entries[0], entries[1])[0].sequence <= place.number
    return not is_kept or place.mark in (begin, mark_of(epoch, entries[1]))


def _unpacked(keys: Keys, after: int, limit: int, reply: Sequence[Any]) -> tuple[list[Event], bool]:
    """Return the events behind a number, a gap before them where some are gone, and if that is all.

    More than ``limit`` are not looked at.
    """
    last, epoch, now_ms, *entries = reply
    events: list[Event] = []
    for number, packed in zip(entries[::2], entries[1::2], strict=True):
        if len(events) >= limit:
            break
        mark = mark_of(epoch, packed)
        events += unpack(number, packed, after=after, partition=keys.partition, mark=mark)
    first, at_ms = last + 1, now_ms
    if events:
        first, at_ms = events[0].sequence, events[0].timestamp_ms
    if first > after + 1:
        missed, mark = first - after - 1, mark_of(epoch)
        lost = gap_event(first - 1, at_ms, missed, "trimmed", partition=keys.partition, mark=mark)
        events.insert(0, lost)
    return events, not events or events[-1].sequence >= last
