"""Notice connections on which nothing arrives any more although Redis answers.

A connection through something that has silently forgotten it, or that lets a byte through every
now and then, may look alive to its client for ever: the worker would wait and never know. The
remedy is to close the connections, for every call is made again on a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog
from redis.asyncio import RedisCluster

from taskqueue_core.broker import WorkerSession, open_redis
from taskqueue_core.broker.clients import CLIENT_ERRORS, Client, close_redis
from taskqueue_core.settings import Settings
from taskqueue_core.worker.control import BLOCK_SECONDS

#: Seconds between looks.
LOOK_SECONDS: Final = 1.0
#: Shortest silence of the fetcher that is looked into, in seconds.
FETCH_SECONDS: Final = 10.0
#: A blocked call should end by itself first, by its own timeout.
_MARGIN_SECONDS: Final = 2.0


class Listener(Protocol):
    """Something that waits for Redis: ``answers`` grows with each thing that it hears."""

    answers: int

    @property
    def is_waiting(self) -> bool:
        """Tell whether an answer is due."""


class _Watched:
    """One listener, and since when nothing was heard from it that should have been."""

    def __init__(self, listener: Listener, client: Client, limit_seconds: float) -> None:
        self.client = client
        self.name = type(listener).__name__.lower()
        self._listener = listener
        self._limit_seconds = limit_seconds
        self._answers = -1
        self._since = 0.0

    def forgive(self, now: float) -> None:
        """Begin to count anew."""
        self._since = now

    def is_silent(self, now: float) -> bool:
        """Look at it once more; tell whether it has heard nothing for too long."""
        answers = self._listener.answers
        if answers != self._answers or not self._listener.is_waiting:
            self._answers, self._since = answers, now
        return now - self._since > self._limit_seconds


class Watchdog:
    """The watchdog loop of one worker process.

    ``calls`` are the client that fetches and who waits for it, ``blocks`` the same for the client
    whose calls block.
    """

    def __init__(
        self,
        settings: Settings,
        session: WorkerSession,
        *,
        calls: tuple[Client, Sequence[Listener]],
        blocks: tuple[Client, Sequence[Listener]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._key = session.keys.meta
        reading = settings.redis.read_timeout_seconds
        limits = (max(2 * reading, FETCH_SECONDS), BLOCK_SECONDS + reading + _MARGIN_SECONDS)
        self._watched = [
            _Watched(listener, client, limit)
            for (client, listeners), limit in zip((calls, blocks), limits, strict=True)
            for listener in listeners
        ]
        self._clock = clock
        self._looked_at = clock()
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=session.worker_id)

    async def run_once(self) -> float:
        """Look once; the seconds until the next look."""
        now = self._clock()
        was_late, self._looked_at = now - self._looked_at > 3 * LOOK_SECONDS, now
        if was_late:
            # A handler has blocked the loop: what has arrived meanwhile was not read yet.
            for one in self._watched:
                one.forgive(now)
        silent = [one for one in self._watched if one.is_silent(now)]
        if silent:
            if await self._redis_answers():
                await self._connect_again(silent)
            self._looked_at = self._clock()
            for one in silent:
                one.forgive(self._looked_at)
        return LOOK_SECONDS

    async def _redis_answers(self) -> bool:
        """Ask for this worker's own keys on a new connection."""
        redis = self._settings.redis
        client: Any = open_redis(self._settings)  # its commands are typed as sync or async
        try:
            async with asyncio.timeout(redis.dial_timeout_seconds + redis.read_timeout_seconds):
                await client.exists(self._key)
        except (*CLIENT_ERRORS, TimeoutError):
            return False
        finally:
            await close_redis(client)
        return True

    async def _connect_again(self, silent: list[_Watched]) -> None:
        self._log.warning(
            "Redis answers others, but nothing arrives here: connecting again",
            silent=[one.name for one in silent],
        )
        for client in {id(one.client): one.client for one in silent}.values():
            await _disconnect(client)


async def _disconnect(client: Client) -> None:
    """Close the connections of a client, also those in use: these calls fail and are repeated."""
    pools = client.get_nodes() if isinstance(client, RedisCluster) else [client.connection_pool]
    for pool in pools:
        try:
            await pool.disconnect()
        except CLIENT_ERRORS as error:
            # It is being closed all the same, and the others have to be, too.
            structlog.get_logger("taskqueue.worker").debug("connection closed", error=str(error))
