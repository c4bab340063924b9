"""What is sent to listeners every few seconds: depths, totals and rates of the fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from taskqueue_core.broker import Inspection
from taskqueue_core.errors import BrokerError
from taskqueue_core.logs import subject
from taskqueue_core.metrics import FINISHED, SUBMITTED
from taskqueue_server.listeners import Frame, make_frame
from taskqueue_server.representations import waiting_counts

REPORT_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)


class Reports:
    """Reports of one server process to its own listeners; every process makes its own.

    With each it is measured how far the process is behind the events.
    """

    def __init__(
        self,
        inspection: Inspection,
        now_ms: Callable[[], int],
        publish: Callable[[Sequence[Frame], int], None],
        seconds: float,
        measure_lag: Callable[[], Awaitable[int]],
    ) -> None:
        self._inspection = inspection
        self._now_ms = now_ms
        self._publish = publish
        self._seconds = seconds
        self._measure_lag = measure_lag

    async def run(self) -> None:
        """Report until cancelled; while the broker is away there is nothing to report."""
        subject.set(None)  # its log lines are not those of the request that happened to begin it
        before: tuple[float, int, int] | None = None
        while True:
            await asyncio.sleep(self._seconds)
            try:
                before = await self._report(before)
                await self._measure_lag()
            except BrokerError:
                continue
            except Exception:  # noqa: BLE001 -- the boundary of a loop that must not die unseen
                _log.exception("a report to listeners failed")

    async def _report(self, before: tuple[float, int, int] | None) -> tuple[float, int, int]:
        stats, depths = await self._inspection.stats(), await self._inspection.queue_stats()
        submitted, finished = _total(stats, SUBMITTED), _total(stats, FINISHED)
        now = time.monotonic()
        then, submitted_then, finished_then = before or (now, submitted, finished)
        seconds = (now - then) or 1.0
        metrics = {
            "backlog": depths.backlog,
            "scheduled_count": depths.scheduled_count,
            "dlq_size": depths.dead_letter_count,
            "active_workers": len(await self._inspection.workers()),
            "submitted_total": submitted,
            "finished_total": finished,
            "submitted_per_second": max(submitted - submitted_then, 0) / seconds,
            "finished_per_second": max(finished - finished_then, 0) / seconds,
        }
        now_ms = self._now_ms()
        waiting = {"depths": waiting_counts(depths)}
        self._publish(
            [
                make_frame("queue.depth", now_ms, waiting),
                make_frame("system.metrics", now_ms, metrics),
            ],
            now_ms,
        )
        return now, submitted, finished


def _total(stats: Mapping[str, int], field: str) -> int:
    return sum(value for name, value in stats.items() if name.partition(":")[0] == field)
