"""A listener that comes back: the events that it has missed, then those that all others get.

Missed events are read page by page, as fast as the listener takes them, until nothing is between
the last page and what the hub sends next. A listener that never gets so far stays at it: it loses
nothing that the stream still holds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from taskqueue_core.broker import EventHistory, Page
from taskqueue_core.errors import BrokerError
from taskqueue_core.events import Cursor
from taskqueue_core.retry import RetryPolicy
from taskqueue_server.listeners import GOING_AWAY, Frame, Subscriber, event_frame

#: Most events in one read, and in the buffer of a listener for it.
PAGE: Final = 200
#: Listeners of one process whose missed events are read at the same time.
AT_ONCE: Final = 8
#: Wait for the hub when it is behind what was read.
_BEHIND_SECONDS: Final = 0.02
_BACKOFF: Final = RetryPolicy(initial_seconds=0.05, max_seconds=2.0, jitter=0.3)
_log = structlog.get_logger(__name__)

#: Offers the last frames and all that comes after them, unless there would be a hole before that.
GoLive = Callable[[Subscriber, Sequence[Frame], Cursor], bool]


class Replay:
    """Brings one listener from a place in the past to the present."""

    def __init__(
        self,
        history: EventHistory,
        turns: asyncio.Semaphore,
        subscriber: Subscriber,
        go_live: GoLive,
    ) -> None:
        self._history = history
        self._turns = turns
        self._subscriber = subscriber
        self._go_live = go_live
        self._limit = min(PAGE, subscriber.capacity)

    async def run(self, after: Cursor) -> None:
        """Do so, from behind a place; without a broker, as soon as there is one again."""
        place: Cursor | None = after
        try:
            while place is not None:
                place = await self._step(place)
        except Exception:  # noqa: BLE001 -- the boundary of a task that nobody awaits
            _log.exception("reading past events failed; the listener is sent away to come again")
            self._subscriber.close(GOING_AWAY)

    async def _step(self, after: Cursor) -> Cursor | None:
        """Offer a page; the place behind it, or ``None`` once the listener is in the present."""
        page = await self._read(after)
        frames = [event_frame(event, place) for event, place in page.events]
        if page.is_last and self._subscriber.has_room(len(frames)):
            if self._go_live(self._subscriber, frames, page.cursor):
                return None
            await asyncio.sleep(_BEHIND_SECONDS)
        await self._subscriber.room(len(frames))
        self._subscriber.offer(frames, 0)
        return page.cursor

    async def _read(self, after: Cursor) -> Page:
        failures = 0
        while True:
            try:
                async with self._turns:
                    partition = self._subscriber.selection.partition
                    return await self._history.read(after, self._limit, partition=partition)
            except BrokerError:
                failures += 1
                delay = _BACKOFF.delay_seconds(failures, random.Random())  # noqa: S311 (jitter)
                await asyncio.sleep(delay)
