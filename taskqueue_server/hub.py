"""Events to many listeners: one reader per process, a bounded buffer per listener.

The stream is read only while somebody listens, or waits for a task. Each event is encoded once,
whoever gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from taskqueue_core.broker import Broker, EventFeed
from taskqueue_core.errors import BrokerError, BrokerUnavailableError
from taskqueue_core.events import Cursor, Event
from taskqueue_core.logs import subject
from taskqueue_server.ending import end_tasks
from taskqueue_server.listeners import Frame, Subscriber, event_frame
from taskqueue_server.replay import AT_ONCE, Replay
from taskqueue_server.reports import REPORT_SECONDS, Reports
from taskqueue_server.selection import Selection
from taskqueue_server.waiting import MAX_WAITERS, Waiter, Waiters

#: Frames that may wait for one listener, before events are lost to it.
CAPACITY: Final = 2_000
#: How long the stream is read on when nobody listens any more: somebody may come soon.
LINGER_SECONDS: Final = 5.0

#: Events that are handed out at once; less than a listener takes at once.
_CHUNK: Final = 64
#: How long the broker may take before somebody who comes is told to come again.
_START_SECONDS: Final = 2.0
#: How long listeners that are sent away may take to be told so.
_GOODBYE_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)


def _ignore(_number: int) -> None:
    pass


class Hub:
    """Reads the event stream for all listeners of this process."""

    def __init__(
        self,
        broker: Broker,
        now_ms: Callable[[], int],
        *,
        capacity: int = CAPACITY,
        report_seconds: float = REPORT_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
        max_waiters: int = MAX_WAITERS,
        on_lag: Callable[[int], None] = _ignore,
    ) -> None:
        self._broker = broker
        self._on_lag = on_lag
        self._capacity = capacity
        self._linger_seconds = linger_seconds
        self._reports = Reports(
            broker.inspection, now_ms, self._publish, report_seconds, self.measure_lag
        )
        self._waiters = Waiters(max_waiters)
        #: Listeners, and what brings them to the present: ``None`` for those that are there.
        self._subscribers: dict[Subscriber, asyncio.Task[None] | None] = {}
        self._live: set[Subscriber] = set()
        #: Listeners that are ahead of the hub, and where.
        self._crossing: dict[Subscriber, Cursor] = {}
        self._replaying = asyncio.Semaphore(AT_ONCE)
        self._cursor = Cursor(())
        self._reading: list[asyncio.Task[None]] = []
        self._is_reading = False
        self._feed: EventFeed | None = None
        self._changing = asyncio.Lock()
        self._lingering: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._is_closed = False
        self._is_empty = asyncio.Event()

    def count(self) -> int:
        """Return the number of listeners."""
        return len(self._subscribers)

    async def measure_lag(self) -> int:
        """Return how many events were not read yet, 0 without listeners; ``on_lag`` is told too.

        Raises BrokerError when nobody knows.
        """
        lag = 0
        if self._is_reading:
            latest = await self._broker.event_positions()
            places = enumerate(self._cursor.positions)
            lag = sum(max(0, latest[partition] - place.number) for partition, place in places)
        self._on_lag(lag)
        return lag

    async def join(
        self, selection: Selection | None = None, *, since: Cursor | None = None
    ) -> Subscriber:
        """Return the buffer of a new listener, which gets what it selects from this moment on.

        With ``since`` also what was behind that place before, from as far back as there is.

        Raises:
            BrokerUnavailableError: where the stream is now cannot be found out.
            BrokerError: the same, for another reason.
        """
        subscriber = Subscriber(self._capacity, selection)
        await self._begin()
        replaying = None
        if since is None:
            self._live.add(subscriber)
        else:
            replay = Replay(self._broker.history, self._replaying, subscriber, self._go_live)
            replaying = asyncio.create_task(replay.run(since), name="replay")
        self._subscribers[subscriber] = replaying
        if self._is_closed:
            subscriber.close()
        return subscriber

    async def leave(self, subscriber: Subscriber) -> None:
        """Forget a listener; some time after the last one the stream is not read any more."""
        replaying = self._subscribers.pop(subscriber, None)
        self._live.discard(subscriber)
        self._crossing.pop(subscriber, None)
        if not self._subscribers:
            self._is_empty.set()
        self._end_later()
        if replaying is not None:
            await end_tasks(replaying)

    @asynccontextmanager
    async def watching(self, task_id: str) -> AsyncIterator[Waiter | None]:
        """Yield one who is told when an event says that the task has ended.

        It is ``None`` when too many wait already. While there is no broker, it is told nothing.
        """
        waiter = None if self._is_closed else self._waiters.add(task_id)
        if waiter is None:
            yield None
            return
        try:
            with suppress(BrokerError):
                await self._begin()
            yield waiter
        finally:
            self._waiters.remove(task_id, waiter)
            self._end_later()

    async def close(self) -> None:
        """Send all listeners away, and those who come later too; wait a moment until they know."""
        self._is_closed = True
        self._waiters.send_away()
        self._is_empty.clear()
        for subscriber in self._subscribers:
            subscriber.close()
        if self._subscribers:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._is_empty.wait()
        if self._lingering is not None:
            self._lingering.cancel()
        async with self._changing:
            await self._stop()

    async def _begin(self) -> None:
        """Have the stream read; nothing that comes after this is missed."""
        try:
            async with asyncio.timeout(_START_SECONDS), self._changing:
                if not self._is_reading:
                    await self._stop()
                    await self._start()
        except TimeoutError as error:
            raise BrokerUnavailableError(f"no answer within {_START_SECONDS:g} s") from error

    async def _start(self) -> None:
        self._cursor = await self._broker.history.now()
        self._feed = feed = self._broker.event_feed()
        self._reading = [
            asyncio.create_task(self._follow(feed), name="events"),
            asyncio.create_task(self._reports.run(), name="reports"),
        ]
        self._is_reading = True

    async def _stop(self) -> None:
        self._is_reading = False
        await end_tasks(*self._reading)
        self._reading = []
        self._on_lag(0)
        feed, self._feed = self._feed, None
        if feed is not None:
            await asyncio.shield(feed.close())

    def _end_later(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        loop = asyncio.get_running_loop()
        self._lingering = loop.call_later(self._linger_seconds, self._end)

    def _end(self) -> None:
        self._ending = asyncio.create_task(self._stop_unless_used())

    async def _stop_unless_used(self) -> None:
        async with self._changing:
            if not self._subscribers and not self._waiters:
                await self._stop()

    async def _follow(self, feed: EventFeed) -> None:
        subject.set(None)  # its log lines are not those of the request that happened to begin it
        chunk = min(_CHUNK, self._capacity)
        numbers = {n: place.number for n, place in enumerate(self._cursor.positions)}
        try:
            async for events in feed.follow(numbers):
                for start in range(0, len(events), chunk):
                    if start:
                        # Those who keep up take what they have before they are given more.
                        await asyncio.sleep(0)
                    self._tell(events[start : start + chunk])
        except Exception:  # noqa: BLE001 -- the boundary of a loop that must not die unseen
            self._is_reading = False
            _log.exception("reading events failed; listeners are sent away to come again")
            for subscriber in self._subscribers:
                subscriber.close()

    def _tell(self, events: Sequence[Event]) -> None:
        frames = []
        for event in events:
            self._cursor.advance(event)
            if self._waiters:
                self._waiters.tell(event)
            if self._live:
                frames.append(event_frame(event, str(self._cursor)))
        if frames:
            self._publish(frames, events[-1].timestamp_ms)
        self._cross(events)

    def _publish(self, frames: Sequence[Frame], timestamp_ms: int) -> None:
        for subscriber in self._live:
            subscriber.offer(frames, timestamp_ms)

    def _go_live(self, subscriber: Subscriber, frames: Sequence[Frame], place: Cursor) -> bool:
        """Offer the last frames of the past, and from now on what comes, if there is no hole."""
        if not place.covers(self._cursor, subscriber.selection.partition):
            return False
        subscriber.offer(frames, 0)
        self._crossing[subscriber] = place.copy()
        self._cross(())
        return True

    def _cross(self, events: Sequence[Event]) -> None:
        """Offer events to listeners that have been further than this hub, until it is there too.

        They have some of them already, and ids that others get would lead them back.
        """
        for subscriber, place in list(self._crossing.items()):
            chosen = subscriber.selection.partition
            frames = []
            for event in events:
                if chosen in (None, event.partition) and place.lacks(event):
                    place.advance(event)
                    frames.append(event_frame(event, str(place)))
            subscriber.offer(frames, events[-1].timestamp_ms if events else 0)
            if self._cursor.covers(place, chosen):
                del self._crossing[subscriber]
                self._live.add(subscriber)
