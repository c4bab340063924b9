"""Bring scheduled tasks to their queues on time, by the broker's clock.

Fetching promotes due tasks by itself; this loop only makes sure that somebody fetches, or
promotes while every slot is busy, when the next task is due.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from taskqueue_core.broker import Broker
from taskqueue_core.worker.fetcher import Fetcher

#: Longest sleep in seconds: also the longest that a lost bell can go unnoticed.
LONGEST_SLEEP_SECONDS: Final = 4.0


class Scheduler:
    """The scheduling loop of one worker process in one partition."""

    def __init__(self, broker: Broker, fetcher: Fetcher, partition: int) -> None:
        self._broker = broker
        self._fetcher = fetcher
        self._partition = partition
        self._due: float | None = None
        self._changed = asyncio.Event()

    def next_due(self, milliseconds: int | None) -> None:
        """Take note of the wait until the next task is due, as the broker just said."""
        due = None if milliseconds is None else time.monotonic() + milliseconds / 1000
        is_earlier = due is not None and (self._due is None or due < self._due - 0.001)
        self._due = due
        if is_earlier:
            self._changed.set()

    async def run_once(self) -> float:
        """Sleep until a task is due or four seconds are over, then have a look."""
        self._changed.clear()
        pause = LONGEST_SLEEP_SECONDS
        if self._due is not None:
            # The broker's clock has whole milliseconds: a look just before would find nothing.
            pause = min(pause, max(0.0, self._due - time.monotonic()) + 0.001)
        try:
            async with asyncio.timeout(pause):
                await self._changed.wait()
        except TimeoutError:
            await self._look()
        return 0.0

    async def _look(self) -> None:
        self._due = None
        if self._fetcher.can_take:
            self._fetcher.wake()
        else:
            _, next_due = await self._broker.promote(self._partition)
            self.next_due(next_due)
