"""Listen for what is meant for this worker: control messages, and the bells of its queues.

Both block on connections of their own. The bell is listened to only while the fetcher has found
its queues empty; a token that arrives when no slot is free is put back for somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from taskqueue_core.broker import WorkerSession
from taskqueue_core.broker.clients import Client, attempted
from taskqueue_core.errors import BrokerFullError
from taskqueue_core.keys import ANY_QUEUE
from taskqueue_core.worker.fetcher import Fetcher

#: Longest block in seconds. A lost bell goes unnoticed for less: the scheduler looks more often.
BLOCK_SECONDS: Final = 5.0


class Control:
    """Messages to one worker: pause, resume, cancel. ``answers`` counts those of Redis."""

    def __init__(
        self, redis: Client, session: WorkerSession, on_message: Callable[[str], None]
    ) -> None:
        self.answers = 0
        self.is_waiting = True
        self._redis = redis
        self._key = session.keys.control(session.worker_id)
        self._on_message = on_message

    async def run_once(self) -> float:
        """Wait for one message and pass it on."""
        try:
            found = await _pop(self._redis, [self._key])
        finally:
            self.answers += 1
        if found:
            self._on_message(found[1].decode())
        return 0.0


class Bell:
    """The bells of the queues that a fetcher serves, and the worker's own.

    A choosy worker serves the queues it was told to, and leaves the bell for new ones to others.
    ``answers`` counts those of Redis, rung or not, errors included.
    """

    def __init__(
        self, redis: Client, session: WorkerSession, fetcher: Fetcher, *, is_choosy: bool
    ) -> None:
        self.answers = 0
        self._queues: list[str] = []
        self._is_choosy = is_choosy
        self._listening: asyncio.Task[tuple[bytes, bytes] | None] | None = None
        self._redis = redis
        self._keys = session.keys
        self._own = session.keys.own_bell(session.worker_id)
        self._fetcher = fetcher

    @property
    def is_waiting(self) -> bool:
        """Tell whether it listens now: not while there is work."""
        return self._listening is not None and not self._listening.done()

    def serve(self, queues: Sequence[str]) -> None:
        """Listen to the bells of these queues, at once.

        A token that the former call takes at this very moment is made up for by the look that a
        worker takes at new queues anyway.
        """
        self._queues = list(queues)
        if self._listening:
            self._listening.cancel()

    async def run_once(self) -> float:
        """Wait until the queues are empty, then for a bell, then have the fetcher look."""
        await self._fetcher.went_dry.wait()
        queues = self._queues if self._is_choosy else [*self._queues, ANY_QUEUE]
        bells = [self._own, *map(self._keys.bell, queues)]
        self._listening = asyncio.create_task(_pop(self._redis, bells))
        try:
            await asyncio.wait([self._listening])
        finally:
            self._listening.cancel()
            self.answers += 1
        found = None if self._listening.cancelled() else self._listening.result()
        if found is None:
            return 0.0
        is_for_others = not self._fetcher.can_take and found[0] != self._own.encode()
        self._fetcher.wake()
        if is_for_others:
            # A full Redis takes nothing back; a lost token costs seconds.
            with contextlib.suppress(BrokerFullError):
                await _push(self._redis, *found)
        return 0.0


async def _pop(redis: Client, keys: list[str]) -> tuple[bytes, bytes] | None:
    # One attempt: to repeat a pop whose answer was lost would lose an element.
    found: Any = await attempted(redis, 0, lambda: redis.blpop(keys, timeout=BLOCK_SECONDS))
    return (found[0], found[1]) if found else None


async def _push(redis: Client, key: bytes, token: bytes) -> None:
    await attempted(redis, 0, lambda: redis.lpush(key.decode(), token))
