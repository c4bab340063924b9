"""What to do with tasks of a type that this worker has no handler for.

They are put aside, never straight back: two workers with different plugins would toss them to and
fro. The broker calls the workers that have a handler, see ``held.lua``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from taskqueue_core.broker import Inspection
from taskqueue_core.errors import BrokerError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import Delivery, Outcome
from taskqueue_core.worker import outcomes

#: Seconds for which the answer to "who handles what" is used again.
_FRESH_SECONDS: Final = 5.0
#: Most workers that a log line names.
_NAMED: Final = 5


class Misrouted:
    """Deliveries that came to the wrong worker."""

    def __init__(
        self,
        inspection: Inspection,
        worker_id: str,
        *,
        give_up_seconds: float,
        report: Callable[[Outcome], None],
        throttle: Throttle,
    ) -> None:
        self._inspection = inspection
        self._give_up_seconds = give_up_seconds
        self._report = report
        self._throttle = throttle
        self._handled_by: dict[str, list[str]] = {}
        self._read_at = -math.inf
        self._reading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)

    def take(self, delivery: Delivery) -> None:
        """Put a delivery aside, and say once in a while whose it is."""
        self._report(outcomes.hold(delivery, give_up_seconds=self._give_up_seconds))
        if self._throttle.allow(f"misrouted {delivery.type}"):
            task = asyncio.create_task(self._warn(delivery.type))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def logged(self) -> None:
        """Wait until every warning is out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _warn(self, task_type: str) -> None:
        workers = await self._handlers_of(task_type)
        self._log.warning(
            "no handler here for this type, task put aside",
            task_type=task_type,
            handled_by=workers[:_NAMED] or "no live worker",
        )

    async def _handlers_of(self, task_type: str) -> list[str]:
        # One at a time: a hundred misrouted types ask once.
        async with self._reading:
            if time.monotonic() > self._read_at + _FRESH_SECONDS:
                try:
                    self._handled_by = await self._read()
                except (BrokerError, ValueError) as error:
                    self._log.debug("cannot tell who handles what", error=str(error))
                else:
                    self._read_at = time.monotonic()
        return self._handled_by.get(task_type, [])

    async def _read(self) -> dict[str, list[str]]:
        handled_by: dict[str, list[str]] = {}
        for worker in await self._inspection.workers():
            for task_type in msgspec.json.decode(worker.handlers, type=dict[str, msgspec.Raw]):
                handled_by.setdefault(task_type, []).append(worker.id)
        return handled_by
