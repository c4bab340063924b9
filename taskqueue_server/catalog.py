"""What live workers say about their handlers: the defaults of every task type."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from taskqueue_core.models import DEFAULT_QUEUE, HandlerInfo, WorkerState
from taskqueue_core.settings import Settings

#: How long an answer of the broker is used again.
MAX_AGE_SECONDS: Final = 2.0

_handlers = msgspec.json.Decoder(dict[str, HandlerInfo])
_UNKNOWN: Final = HandlerInfo()


class HandlerCatalog:
    """The handlers of the fleet, read again when they are older than ``MAX_AGE_SECONDS``.

    Where workers differ about a type, the one that started last is believed.
    """

    def __init__(
        self,
        settings: Settings,
        read_workers: Callable[[], Awaitable[list[WorkerState]]],
        clock: Callable[[], float],
    ) -> None:
        self._read_workers = read_workers
        self._clock = clock
        self._default_retries = settings.queue.retry_max_attempts
        self._default_timeout = math.ceil(settings.queue.default_timeout_seconds)
        self._infos: dict[str, HandlerInfo] = {}
        self._valid_until = -math.inf
        self._refreshing = asyncio.Lock()

    async def queue_of(self, task_type: str) -> str:
        """Return the queue for tasks of a type that name none."""
        return (await self._find(task_type)).queue or DEFAULT_QUEUE

    async def max_retries_of(self, task_type: str) -> int:
        """Return the retries of tasks of a type that do not say how many."""
        chosen = (await self._find(task_type)).max_retries
        return self._default_retries if chosen is None else chosen

    async def timeout_of(self, task_type: str) -> int:
        """Return the timeout, in seconds, of tasks of a type that do not say how long."""
        chosen = (await self._find(task_type)).timeout_seconds
        return self._default_timeout if chosen is None else chosen

    async def _find(self, task_type: str) -> HandlerInfo:
        if self._clock() >= self._valid_until:
            async with self._refreshing:
                if self._clock() >= self._valid_until:
                    await self._refresh()
        return self._infos.get(task_type, _UNKNOWN)

    async def _refresh(self) -> None:
        infos: dict[str, HandlerInfo] = {}
        workers = await self._read_workers()
        for worker in sorted(workers, key=lambda worker: (worker.started_at_ms, worker.id)):
            infos.update(_handlers.decode(worker.handlers))
        self._infos = infos
        self._valid_until = self._clock() + MAX_AGE_SECONDS
