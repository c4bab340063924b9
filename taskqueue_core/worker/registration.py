"""Be known to the broker under one name, and know which queues there are to serve."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from taskqueue_core._version import __version__
from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.errors import SettingsError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.settings import WorkerSettings

#: Most characters of the host's name that are published.
HOST_LENGTH: Final = 64


class Registration:
    """The registration of one worker in one partition, made again when the broker lost it."""

    def __init__(
        self,
        broker: Broker,
        session: WorkerSession,
        settings: WorkerSettings,
        handlers: Mapping[str, HandlerInfo],
        schemas: Mapping[str, HandlerSchemas],
        *,
        on_queues: Callable[[Sequence[str]], None],
        throttle: Throttle,
    ) -> None:
        self.partition = session.keys.partition
        self._broker = broker
        self._session = session
        self._settings = settings
        self._handlers = handlers
        # Who lists workers asks the first partition; the schemas are too large for copies.
        self._schemas = msgspec.json.encode(dict(schemas)) if self.partition == 0 else b""
        self._on_queues = on_queues
        self._throttle = throttle
        self._version = -1
        self._is_due = asyncio.Event()
        self._is_lost = True
        self._queues: Sequence[str] | None = None
        self._waiting_since: float | None = None
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=session.worker_id)

    def lost(self) -> None:
        """Note that the broker does not know this worker (any more)."""
        self._is_lost = True
        self._is_due.set()

    def saw_version(self, version: int) -> None:
        """Note the version of the set of queues; another one means there are new ones.

        The bell for a new queue wakes one worker. The others must know of it before a lease of
        its tasks can run out, for they may have to take them over: heartbeats, of which there
        are two in a lease at least, are answered with the version.
        """
        if version != self._version:
            self._version = version
            self._is_due.set()

    async def register(self) -> bool:
        """Register and read the queues; False when the name is still taken, after a short wait.

        Raises:
            SettingsError: another live worker keeps the name for longer than a lease.
            SchemaError: the namespace belongs to other settings.
        """
        if self._is_lost:
            # Whoever emptied Redis has also taken away what marks the namespace as ours.
            await self._broker.prepare()
        taken_ms = await self._session.register(
            concurrency=self._settings.concurrency,
            version=__version__,
            queues=self._settings.queues,
            handlers=self._handlers,
            schemas=self._schemas,
            process=f"{os.getpid()} {socket.gethostname()[:HOST_LENGTH]}",
        )
        if taken_ms is None:
            self._waiting_since = None
            if self._is_lost:
                self._is_lost, self._queues = False, None
            await self._read_queues()
            return True
        await self._wait_for_name(taken_ms)
        return False

    async def run_once(self) -> float:
        """Register again, and read the queues again, when there is a reason to."""
        await self._is_due.wait()
        self._is_due.clear()
        is_done = False
        try:
            is_done = await self.register()
        finally:
            if not is_done:
                self._is_due.set()
        return 0.0

    async def _read_queues(self) -> None:
        queues: Sequence[str] = self._settings.queues
        queues = queues or await self._broker.inspection.queues(self._session.keys)
        if queues != self._queues:
            self._queues = queues
            self._on_queues(queues)

    async def _wait_for_name(self, taken_ms: int) -> None:
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if now - self._waiting_since > self._settings.lease_seconds + 1:
            raise SettingsError(
                f"worker id {self._session.worker_id} belongs to another live worker: "
                "give each worker its own --id"
            )
        if self._throttle.allow("taken"):
            self._log.warning(
                "worker id is taken, waiting for its registration to expire", within_ms=taken_ms
            )
        # A registration that never expires, made by hand, says -1.
        await asyncio.sleep(max(50, min(taken_ms + 1, 500)) / 1000)
