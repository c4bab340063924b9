"""A worker's own counters, flushed into the fleet's with its heartbeats."""

from __future__ import annotations

import threading

from taskqueue_core.metrics import (
    DURATION,
    DURATION_SUM,
    RETRY_DELAY,
    RETRY_DELAY_SUM,
    WAIT,
    WAIT_SUM,
    bucket,
    field,
)


class Measurements:
    """Histograms of run times and waits; added to by the loop, taken by the heartbeat thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def ran(self, task_type: str, duration_ms: int) -> None:
        """Count one finished attempt."""
        self._add(DURATION, DURATION_SUM, task_type, duration_ms)

    def waited(self, priority: int, wait_ms: int) -> None:
        """Count the time one task spent waiting in its queue."""
        self._add(WAIT, WAIT_SUM, str(priority), max(0, wait_ms))

    def will_retry(self, task_type: str, delay_ms: int) -> None:
        """Count the wait before one automatic retry."""
        self._add(RETRY_DELAY, RETRY_DELAY_SUM, task_type, delay_ms)

    def take(self) -> dict[str, int]:
        """Return the counts since the last call."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts

    def _add(self, name: str, sum_name: str, label: str, milliseconds: int) -> None:
        bucket_field = field(name, label, bucket(milliseconds))
        sum_field = field(sum_name, label)
        with self._lock:
            counts = self._counts
            counts[bucket_field] = counts.get(bucket_field, 0) + 1
            counts[sum_field] = counts.get(sum_field, 0) + milliseconds
