"""Follow the event stream of a namespace: every event once, in order, gaps said aloud.

Events of a partition are numbered without holes, so a difference is a gap: the stream was trimmed
past the reader, or Redis lost events and gave their numbers to others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog
from redis.asyncio import RedisCluster

from taskqueue_core.broker.clients import CLIENT_ERRORS, Client, batch, close_redis, server_time_ms
from taskqueue_core.events import Event, gap_event, mark_of, unpack
from taskqueue_core.keys import Keys
from taskqueue_core.logs import Throttle
from taskqueue_core.retry import RetryPolicy

#: Longest wait for new events before the numbers are checked, in seconds.
BLOCK_SECONDS = 2.0

#: Most stream entries in one read; an entry holds the events of one script call.
_ENTRIES = 100

#: Least time between two reads that are not full: events come together rather than one by one.
PACE_SECONDS = 0.02

#: Entries of a stream that are remembered, to find where a promoted replica's history parts.
_REMEMBERED = 500

_BACKOFF = RetryPolicy(initial_seconds=0.05, max_seconds=2.0, jitter=0.3)


class EventFeed:
    """Reader of all partitions' events over connections of its own.

    ``redis`` must be a client for blocking commands of ``BLOCK_SECONDS``; the feed closes it. One
    server is asked for all partitions at once; in a cluster each is followed by itself.
    """

    def __init__(self, redis: Client, partitions: Sequence[Keys]) -> None:
        self._redis = redis
        each = [[keys] for keys in partitions]
        groups = each if isinstance(redis, RedisCluster) else [partitions]
        self._readers = [_Reader(redis, group) for group in groups]
        self._waiting: dict[asyncio.Task[list[Event]], _Reader] = {}

    async def follow(self, after: Mapping[int, int] | None = None) -> AsyncIterator[list[Event]]:
        """Yield events as they come, from after the given number of each partition.

        Without ``after``: from now on. A gap is an event of type ``events.gap`` whose data says
        how many were ``missed`` and why. Lost connections are made again; the iterator does not
        end.
        """
        after = after or {}
        if len(self._readers) == 1:
            while True:
                yield await self._readers[0].next_events(after)
        for reader in self._readers:
            self._wait(reader, after)
        try:
            while True:
                done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._wait(self._waiting.pop(task), after)
                    yield task.result()
        finally:
            await self._end()

    async def close(self) -> None:
        """Close the feed's connections."""
        await self._end()
        await close_redis(self._redis)

    def _wait(self, reader: _Reader, after: Mapping[int, int]) -> None:
        task = asyncio.create_task(reader.next_events(after), name="event reader")
        self._waiting[task] = reader

    async def _end(self) -> None:
        tasks = list(self._waiting)
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Reader:
    """Reader of some partitions over one connection."""

    def __init__(self, redis: Client, partitions: Sequence[Keys]) -> None:
        self._redis: Any = redis  # typed as bytes | str by redis-py; ours are bytes
        self._streams = {keys.events.encode(): keys for keys in partitions}
        self._positions: dict[bytes, int] = {}
        self._epochs: dict[bytes, bytes | None] = {}
        self._recent: dict[bytes, deque[tuple[int, int]]] = {}
        self._failures = 0
        self._read_after = 0.0
        self._log = structlog.get_logger("taskqueue.feed")
        self._throttle = Throttle(3, time.monotonic)

    async def next_events(self, after: Mapping[int, int]) -> list[Event]:
        """Return the next events, one at least, as soon as there are some."""
        while True:
            try:
                await self._find_positions(after)
                events: list[Event] = []
                if self._failures:
                    # A broker that comes back may have lost its latest events.
                    events = await self._check_history() or await self._check_numbers()
                events = events or await self._read()
                self._failures = 0
            except CLIENT_ERRORS as error:
                self._failures += 1
                if self._throttle.allow("lost"):
                    self._log.warning("event stream lost, trying again", error=str(error))
                delay = _BACKOFF.delay_seconds(self._failures, random.Random())  # noqa: S311
                await asyncio.sleep(delay)
                continue
            if events:
                return events

    async def _find_positions(self, after: Mapping[int, int]) -> None:
        for stream, keys in self._streams.items():
            if stream not in self._positions:
                last, epoch = await self._redis.hmget(keys.meta, ["events", "epoch"])
                start = after.get(keys.partition)
                self._positions[stream] = int(last or 0) if start is None else start
                self._epochs[stream] = epoch
                self._recent[stream] = deque(maxlen=_REMEMBERED)

    async def _read(self) -> list[Event]:
        await asyncio.sleep(max(0.0, self._read_after - time.monotonic()))
        found = await self._redis.xread(
            {name: f"{number}-0" for name, number in self._positions.items()},
            count=_ENTRIES,
            block=round(BLOCK_SECONDS * 1000),
        )
        if all(len(entries) < _ENTRIES for _, entries in found):
            self._read_after = time.monotonic() + PACE_SECONDS
        events = await self._check_numbers([stream for stream, _ in found])
        if events:
            return events
        for stream, entries in found:
            for entry_id, fields in entries:
                number, packed = int(entry_id.partition(b"-")[0]), fields[b"e"]
                events += self._unpack(stream, number, packed)
                self._recent[stream].append((number, hash(packed)))
        return events

    def _unpack(self, stream: bytes, last: int, packed: bytes) -> list[Event]:
        partition = self._streams[stream].partition
        position = self._positions[stream]
        mark = self._mark(stream, packed)
        events = unpack(last, packed, after=position, partition=partition, mark=mark)
        missed = events[0].sequence - position - 1 if events else 0
        if missed:
            now_ms, number = events[0].timestamp_ms, position + missed
            mark = self._mark(stream)
            lost = gap_event(number, now_ms, missed, "trimmed", partition=partition, mark=mark)
            events.insert(0, lost)
        self._positions[stream] = last
        return events

    def _mark(self, stream: bytes, packed: bytes = b"") -> str:
        return mark_of(int(self._epochs[stream] or 0), packed)

    async def _check_history(self) -> list[Event]:
        """Go back to where a promoted replica parted: what it never got is undone, others follow.

        Their numbers may be the same, so the entries themselves are compared.
        """
        parted = {}
        for stream, recent in self._recent.items():
            position = self._positions[stream]
            if not recent:
                continue
            rows = await self._redis.xrevrange(stream, f"{position}-0", "-", _REMEMBERED)
            kept = {(int(name.partition(b"-")[0]), hash(row[b"e"])) for name, row in rows}
            while recent and recent[-1] not in kept:
                recent.pop()
            if recent and recent[-1][0] < position:
                parted[stream] = recent[-1][0]
        return await self._go_back(parted)

    async def _check_numbers(self, streams: Sequence[bytes] = ()) -> list[Event]:
        """Notice that numbering began again: the new numbers may look like the next old ones.

        Without ``streams`` all are checked: one that was emptied has nothing to read.
        """
        checked = streams or list(self._streams)
        metas = [("HMGET", self._streams[stream].meta, "events", "epoch") for stream in checked]
        rows = dict(zip(checked, await batch(self._redis, metas), strict=True))
        begun = {}
        for stream, (last, epoch) in rows.items():
            position, known = self._positions[stream], self._epochs[stream]
            if int(last or 0) < position or (position and known not in (None, epoch)):
                begun[stream] = 0
        gaps = await self._go_back(begun)
        self._epochs.update({stream: epoch for stream, (_, epoch) in rows.items()})
        return gaps

    async def _go_back(self, numbers: Mapping[bytes, int]) -> list[Event]:
        """Read streams again from behind these numbers; the gaps that say what does not hold."""
        # Asked before anything changes: when it fails, all is found again at the next attempt.
        now_ms = await server_time_ms(self._redis) if numbers else 0
        gaps = []
        for stream, number in numbers.items():
            missed = self._positions[stream] - number
            partition, mark = self._streams[stream].partition, self._mark(stream)
            gaps.append(
                gap_event(number, now_ms, missed, "restarted", partition=partition, mark=mark)
            )
            self._positions[stream] = number
            if not number:
                self._recent[stream].clear()
        return gaps
