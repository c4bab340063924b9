"""What to do with tasks of a type that this worker has no handler for.

They are put aside, never straight back: two workers with different plugins would toss them to and
fro. See ``hold.lua`` for how long.
"""

from __future__ import annotations

import asyncio
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
        self._read_at = -_FRESH_SECONDS
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)

    def take(self, delivery: Delivery) -> None:
        """Put a delivery aside."""
        task = asyncio.create_task(self._put_aside(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put_aside(self, delivery: Delivery) -> None:
        workers = await self._handlers_of(delivery.type)
        if self._throttle.allow(f"misrouted {delivery.type}"):
            self._log.warning(
                "no handler here for this type, task put aside",
                task_type=delivery.type,
                handled_by=workers or "no live worker",
            )
        self._report(
            outcomes.hold(delivery, is_handled=bool(workers), give_up_seconds=self._give_up_seconds)
        )

    async def _handlers_of(self, task_type: str) -> list[str]:
        if time.monotonic() > self._read_at + _FRESH_SECONDS:
            try:
                workers = await self._inspection.workers()
            except BrokerError:
                return self._handled_by.get(task_type, [])
            self._handled_by = {}
            for worker in workers:
                for handled in msgspec.json.decode(worker.handlers, type=dict[str, msgspec.Raw]):
                    self._handled_by.setdefault(handled, []).append(worker.id)
            self._read_at = time.monotonic()
        return self._handled_by.get(task_type, [])
