"""Events to many listeners: one reader per process, a bounded buffer per listener.

A listener that reads too slowly loses events and is told how many, at the place of the loss; it
never slows the reader or another listener. The stream is read only while somebody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from taskqueue_core.broker import Broker, EventFeed
from taskqueue_core.codec import format_time
from taskqueue_core.errors import BrokerError
from taskqueue_core.metrics import FINISHED, SUBMITTED
from taskqueue_server.ending import end_tasks
from taskqueue_server.representations import waiting_counts

#: Frames that may wait for one listener, before events are lost to it.
CAPACITY: Final = 1_000
#: Answers that may wait for one listener, before it is sent away.
MAX_REPLIES: Final = 32
#: Frames handed over at once; between two hand-overs other work gets its turn.
_BATCH: Final = 32
_REPORT_SECONDS: Final = 5.0

_GOING_AWAY: Final = 1001
_POLICY_VIOLATION: Final = 1008
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Gap:
    """The place where ``missed`` events are lost."""

    missed: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One text frame for clients."""

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a connection."""

    code: int


def make_frame(event_type: str, timestamp_ms: int, data: Mapping[str, Any]) -> Frame:
    """Return a frame that is not part of the event stream, so without an id."""
    body = {"type": event_type, "timestamp": format_time(timestamp_ms), "data": data}
    return Frame(event_type, msgspec.json.encode(body).decode())


class Subscriber:
    """The buffer of one listener. ``selected`` are the types it wants, ``None`` all of them."""

    def __init__(self, capacity: int) -> None:
        self.selected: frozenset[str] | None = None
        self._capacity = capacity
        self._waiting: deque[Frame | _Gap | Close] = deque()
        self._replies = 0
        self._ready = asyncio.Event()

    def offer(self, frame: Frame, timestamp_ms: int) -> None:
        """Add an event if it is wanted; count it as missed where the buffer is full."""
        if self.selected is not None and frame.type not in self.selected:
            return
        last = self._waiting[-1] if self._waiting else None
        if len(self._waiting) < self._capacity:
            self._waiting.append(frame)
        elif isinstance(last, _Gap):
            last.missed += 1
        elif not isinstance(last, Close):
            self._waiting.append(_Gap(1, timestamp_ms))
        self._ready.set()

    def reply(self, frame: Frame) -> None:
        """Add an answer behind what already waits; a listener that reads none is sent away."""
        self._replies += 1
        if self._replies > MAX_REPLIES:
            self.close(_POLICY_VIOLATION)
        else:
            self._waiting.append(frame)
            self._ready.set()

    def close(self, code: int = _GOING_AWAY) -> None:
        """End the connection; what waits is dropped."""
        self._waiting.clear()
        self._waiting.append(Close(code))
        self._ready.set()

    async def take(self) -> list[Frame | Close]:
        """Return what waits, in order, as soon as there is something."""
        await self._ready.wait()
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        if not self._waiting:
            self._ready.clear()
            self._replies = 0
        return [
            make_frame("events.gap", item.timestamp_ms, {"missed": item.missed})
            if isinstance(item, _Gap)
            else item
            for item in batch
        ]


class Hub:
    """Reads the event stream for all listeners of this process."""

    def __init__(
        self,
        broker: Broker,
        now_ms: Callable[[], int],
        *,
        capacity: int = CAPACITY,
        report_seconds: float = _REPORT_SECONDS,
    ) -> None:
        self._broker = broker
        self._now_ms = now_ms
        self._capacity = capacity
        self._report_seconds = report_seconds
        self._subscribers: set[Subscriber] = set()
        self._positions: dict[int, int] = {}
        self._reading: list[asyncio.Task[None]] = []
        self._changing = asyncio.Lock()
        self._is_closed = False

    def count(self) -> int:
        """Return the number of listeners."""
        return len(self._subscribers)

    async def join(self) -> Subscriber:
        """Return the buffer of a new listener, which gets every event from this moment on."""
        subscriber = Subscriber(self._capacity)
        async with self._changing:
            if not self._reading or any(task.done() for task in self._reading):
                await self._stop()
                await self._start()
            self._subscribers.add(subscriber)
        if self._is_closed:
            subscriber.close()
        return subscriber

    async def leave(self, subscriber: Subscriber) -> None:
        """Forget a listener; without any left the stream is not read any more."""
        async with self._changing:
            self._subscribers.discard(subscriber)
            if not self._subscribers:
                await self._stop()

    async def close(self) -> None:
        """Send all listeners away, and those who come later too."""
        self._is_closed = True
        for subscriber in self._subscribers:
            subscriber.close()

    async def _start(self) -> None:
        # Read before the listener is told that it is connected: nothing after that is missed.
        with contextlib.suppress(BrokerError):
            self._positions = await self._broker.event_positions()
        self._reading = [
            asyncio.create_task(self._follow(self._broker.event_feed()), name="events"),
            asyncio.create_task(self._report(), name="reports"),
        ]

    async def _stop(self) -> None:
        await end_tasks(*self._reading)
        self._reading = []
        self._positions = {}

    async def _follow(self, feed: EventFeed) -> None:
        try:
            async for events in feed.follow(dict(self._positions)):
                for event in events:
                    self._positions[event.partition] = event.sequence
                    if event.type == "events.gap":
                        frame = make_frame(event.type, event.timestamp_ms, event.data)
                    else:
                        frame = Frame(event.type, event.encode(self._cursor()).decode())
                    self._publish(frame, event.timestamp_ms)
        except Exception:  # noqa: BLE001 -- the boundary of a loop that must not die unseen
            _log.exception("reading events failed; listeners are sent away to come again")
            for subscriber in self._subscribers:
                subscriber.close()
        finally:
            await feed.close()

    def _cursor(self) -> str:
        """Return the place in the stream, opaque to clients: the number in every partition."""
        numbers = (self._positions.get(keys.partition, 0) for keys in self._broker.partitions)
        return ".".join(map(str, numbers))

    def _publish(self, frame: Frame, timestamp_ms: int) -> None:
        for subscriber in self._subscribers:
            subscriber.offer(frame, timestamp_ms)

    async def _report(self) -> None:
        """Send depths and totals every few seconds."""
        before: tuple[float, int, int] | None = None
        while True:
            await asyncio.sleep(self._report_seconds)
            with contextlib.suppress(BrokerError):
                before = await self._report_once(before)

    async def _report_once(self, before: tuple[float, int, int] | None) -> tuple[float, int, int]:
        inspection = self._broker.inspection
        stats, depths = await inspection.stats(), await inspection.queue_stats()
        submitted, finished = _total(stats, SUBMITTED), _total(stats, FINISHED)
        now = time.monotonic()
        then, submitted_then, finished_then = before or (now, submitted, finished)
        seconds = (now - then) or 1.0
        metrics = {
            "backlog": depths.backlog,
            "scheduled_count": depths.scheduled_count,
            "dlq_size": depths.dead_letter_count,
            "active_workers": len(await inspection.workers()),
            "submitted_total": submitted,
            "finished_total": finished,
            "submitted_per_second": max(submitted - submitted_then, 0) / seconds,
            "finished_per_second": max(finished - finished_then, 0) / seconds,
        }
        now_ms = self._now_ms()
        self._publish(make_frame("queue.depth", now_ms, {"depths": waiting_counts(depths)}), now_ms)
        self._publish(make_frame("system.metrics", now_ms, metrics), now_ms)
        return now, submitted, finished


def _total(stats: Mapping[str, int], field: str) -> int:
    return sum(value for name, value in stats.items() if name.partition(":")[0] == field)
