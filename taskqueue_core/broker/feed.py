"""Follow the event stream of a namespace: every event once, in order, gaps said aloud.

Events of a partition are numbered without holes, so a difference is a gap: the stream was trimmed
past the reader, or Redis lost its data and the numbers began again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from taskqueue_core.events import Event, unpack
from taskqueue_core.keys import Keys
from taskqueue_core.logs import Throttle
from taskqueue_core.retry import RetryPolicy

#: Longest wait for new events before the numbers are checked, in seconds.
BLOCK_SECONDS = 2.0

#: Most stream entries in one read; an entry holds the events of one script call.
_ENTRIES = 100

_BACKOFF = RetryPolicy(initial_seconds=0.05, max_seconds=2.0, jitter=0.3)


class EventFeed:
    """Reader of all partitions' events over a connection of its own.

    ``redis`` must be a client for blocking commands of ``BLOCK_SECONDS``; the feed closes it.
    """

    def __init__(self, redis: Redis, partitions: Sequence[Keys]) -> None:
        self._redis: Any = redis  # typed as bytes | str by redis-py; ours are bytes
        self._streams = {keys.events.encode(): keys for keys in partitions}
        self._positions: dict[bytes, int] = {}
        self._epochs: dict[bytes, bytes | None] = {}
        self._log = structlog.get_logger("taskqueue.feed")
        self._throttle = Throttle(3, time.monotonic)

    async def follow(self, after: dict[int, int] | None = None) -> AsyncIterator[list[Event]]:
        """Yield events as they come, from after the given number of each partition.

        Without ``after``: from now on. A gap is an event of type ``events.gap`` whose data says
        how many were ``missed``. Lost connections are made again; the iterator does not end.
        """
        failures = 0
        while True:
            try:
                await self._find_positions(after or {})
                # A broker that comes back may have lost its latest events.
                events = await self._check_numbers() if failures else []
                events = events or await self._read()
                failures = 0
            except (RedisError, OSError) as error:
                failures += 1
                if self._throttle.allow("lost"):
                    self._log.warning("event stream lost, trying again", error=str(error))
                await asyncio.sleep(_BACKOFF.delay_seconds(failures, random.Random()))  # noqa: S311
                continue
            if events:
                yield events

    async def close(self) -> None:
        """Close the feed's connection."""
        await self._redis.aclose()

    async def _find_positions(self, after: dict[int, int]) -> None:
        for stream, keys in self._streams.items():
            if stream not in self._positions:
                last, epoch = await self._redis.hmget(keys.meta, ["events", "epoch"])
                start = after.get(keys.partition)
                self._positions[stream] = int(last or 0) if start is None else start
                self._epochs[stream] = epoch

    async def _read(self) -> list[Event]:
        found = await self._redis.xread(
            {name: f"{number}-0" for name, number in self._positions.items()},
            count=_ENTRIES,
            block=round(BLOCK_SECONDS * 1000),
        )
        events = await self._check_numbers([stream for stream, _ in found])
        if events:
            return events
        for stream, entries in found:
            for entry_id, fields in entries:
                events += self._unpack(stream, int(entry_id.partition(b"-")[0]), fields[b"e"])
        return events

    def _unpack(self, stream: bytes, last: int, packed: bytes) -> list[Event]:
        partition = self._streams[stream].partition
        position = self._positions[stream]
        events = [
            Event(event.sequence, event.type, event.timestamp_ms, event.data, partition)
            for event in unpack(last, packed)
            if event.sequence > position
        ]
        missed = events[0].sequence - position - 1 if events else 0
        if missed:
            events.insert(0, _gap(position + missed, events[0].timestamp_ms, partition, missed))
        self._positions[stream] = last
        return events

    async def _check_numbers(self, streams: Sequence[bytes] = ()) -> list[Event]:
        """Notice that numbering began again: the new numbers may look like the next old ones.

        Without ``streams`` all are checked: one that was emptied has nothing to read.
        """
        checked = streams or list(self._streams)
        pipe = self._redis.pipeline(transaction=False)
        for stream in checked:
            pipe.hmget(self._streams[stream].meta, ["events", "epoch"])
        pipe.time()
        *rows, (seconds, micros) = await pipe.execute()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        gaps = []
        for stream, (last, epoch) in zip(checked, rows, strict=True):
            position, known = self._positions[stream], self._epochs[stream]
            self._epochs[stream] = epoch
            if int(last or 0) < position or (position and known not in (None, epoch)):
                gaps.append(_gap(0, now_ms, self._streams[stream].partition, position))
                self._positions[stream] = 0
        return gaps


def _gap(sequence: int, timestamp_ms: int, partition: int, missed: int) -> Event:
    return Event(sequence, "events.gap", timestamp_ms, {"missed": missed}, partition)
