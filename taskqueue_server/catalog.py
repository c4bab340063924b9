"""What live workers say about their handlers: the defaults of every task type, and its schemas."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from taskqueue_core.models import DEFAULT_QUEUE, HandlerInfo, WorkerState
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.settings import Settings
from taskqueue_server.coverage import Coverage
from taskqueue_server.payloads import PayloadCheck

#: How long an answer of the broker is used again.
MAX_AGE_SECONDS: Final = 2.0

_handlers = msgspec.json.Decoder(dict[str, HandlerInfo])
_schemas = msgspec.json.Decoder(dict[str, HandlerSchemas])
_UNKNOWN: Final = HandlerInfo()
_ANYTHING: Final = HandlerSchemas()


class KnownType(msgspec.Struct, frozen=True, kw_only=True):
    """A task type that live workers handle, with the limits of tasks that name none."""

    type: str
    info: HandlerInfo
    max_retries: int
    timeout_seconds: int
    worker_count: int
    schemas: HandlerSchemas


class _Entry:
    """What the workers say about one task type; ``worker_id`` is the one that is believed."""

    def __init__(self) -> None:
        self.info = _UNKNOWN
        self.worker_id = ""
        self.worker_count = 0


class _Published:
    """Schemas under the digest that workers know them by, with the check of payloads."""

    def __init__(self, task_type: str, schemas: HandlerSchemas) -> None:
        self.schemas = schemas
        self.check = PayloadCheck(task_type, schemas.payload) if schemas.payload else None


class HandlerCatalog:
    """The handlers of the fleet, read again when they are older than ``MAX_AGE_SECONDS``.

    Where workers differ about a type, the one that started last is believed. Schemas are large, so
    those of a digest are read once, from a worker that has them.
    """

    def __init__(
        self,
        settings: Settings,
        read_workers: Callable[[], Awaitable[list[WorkerState]]],
        read_schemas: Callable[[str], Awaitable[bytes]],
        clock: Callable[[], float],
    ) -> None:
        self._read_workers = read_workers
        self._read_schemas = read_schemas
        self._clock = clock
        self._default_retries = settings.queue.retry_max_attempts
        self._default_timeout = math.ceil(settings.queue.default_timeout_seconds)
        self._entries: dict[str, _Entry] = {}
        self._published: dict[tuple[str, str], _Published] = {}
        self._coverage = Coverage(())
        self._valid_until = -math.inf
        self._refreshing = asyncio.Lock()

    async def queue_of(self, task_type: str) -> str:
        """Return the queue for tasks of a type that name none."""
        return (await self._find(task_type)).queue or DEFAULT_QUEUE

    async def max_retries_of(self, task_type: str) -> int:
        """Return the retries of tasks of a type that do not say how many."""
        return self._retries(await self._find(task_type))

    async def timeout_of(self, task_type: str) -> int:
        """Return the timeout, in seconds, of tasks of a type that do not say how long."""
        return self._timeout(await self._find(task_type))

    async def has_worker(self, task_type: str, queue: str) -> bool:
        """Tell whether some live worker takes tasks of a type from a queue."""
        await self._refresh_if_old()
        return self._coverage.has_worker(task_type, queue)

    async def check_payload(self, task_type: str, payload: Any, size: int) -> None:
        """Raise InvalidTaskError unless a payload of ``size`` bytes fits its type's schema.

        Whatever is for a type without a known schema fits.
        """
        info = await self._find(task_type)
        published = self._published.get((task_type, info.schemas)) if info.schemas else None
        if published is not None and published.check is not None:
            published.check.check(payload, size)

    async def known_types(self) -> list[KnownType]:
        """Return the task types that live workers handle, by name."""
        await self._refresh_if_old()
        found = []
        for name, entry in sorted(self._entries.items()):
            published = self._published.get((name, entry.info.schemas))
            found.append(
                KnownType(
                    type=name,
                    info=entry.info,
                    max_retries=self._retries(entry.info),
                    timeout_seconds=self._timeout(entry.info),
                    worker_count=entry.worker_count,
                    schemas=published.schemas if published else _ANYTHING,
                )
            )
        return found

    def _retries(self, info: HandlerInfo) -> int:
        return self._default_retries if info.max_retries is None else info.max_retries

    def _timeout(self, info: HandlerInfo) -> int:
        return self._default_timeout if info.timeout_seconds is None else info.timeout_seconds

    async def _find(self, task_type: str) -> HandlerInfo:
        await self._refresh_if_old()
        entry = self._entries.get(task_type)
        return entry.info if entry else _UNKNOWN

    async def _refresh_if_old(self) -> None:
        if self._clock() >= self._valid_until:
            async with self._refreshing:
                if self._clock() >= self._valid_until:
                    await self._refresh()

    async def _refresh(self) -> None:
        entries: dict[str, _Entry] = {}
        workers = await self._read_workers()
        for worker in sorted(workers, key=lambda worker: (worker.started_at_ms, worker.id)):
            for name, info in _handlers.decode(worker.handlers).items():
                entry = entries.setdefault(name, _Entry())
                entry.info, entry.worker_id = info, worker.id
                entry.worker_count += 1
        self._published = await self._read_published(entries)
        self._entries = entries
        self._coverage = Coverage(workers)
        self._valid_until = self._clock() + MAX_AGE_SECONDS

    async def _read_published(
        self, entries: dict[str, _Entry]
    ) -> dict[tuple[str, str], _Published]:
        """Return the schemas in use, those that are not known yet from the workers believed."""
        wanted = {(name, e.info.schemas): e for name, e in entries.items() if e.info.schemas}
        found = {key: self._published[key] for key in wanted if key in self._published}
        workers = {entry.worker_id for key, entry in wanted.items() if key not in found}
        for worker_id in sorted(workers):
            for name, schemas in _schemas.decode(await self._read_schemas(worker_id)).items():
                key = name, schemas.digest
                if key in wanted and key not in found:
                    found[key] = _Published(name, schemas)
        return found
