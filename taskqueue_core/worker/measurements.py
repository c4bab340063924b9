"""A worker's own counters, flushed into the fleet's with its heartbeats."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

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

#: The time in seconds over which rates are taken, and the steps in which it moves on.
RATE_SECONDS: Final = 60.0
_STEP_SECONDS: Final = 5.0


class _Rate:
    """How often something happened a second, over the last minute or since the start."""

    def __init__(self, now: float) -> None:
        self._start = now
        self._steps: deque[tuple[float, int]] = deque()

    def add(self, now: float) -> None:
        """Count one."""
        if self._steps and now - self._steps[-1][0] < _STEP_SECONDS:
            begun, count = self._steps.pop()
            self._steps.append((begun, count + 1))
        else:
            self._steps.append((now, 1))
        self._forget(now)

    def read(self, now: float) -> float:
        """Return the mean."""
        self._forget(now)
        seconds = min(max(now - self._start, 1.0), RATE_SECONDS)
        return sum(count for _, count in self._steps) / seconds

    def _forget(self, now: float) -> None:
        while self._steps and now - self._steps[0][0] >= RATE_SECONDS:
            self._steps.popleft()


class _SlotTime:
    """How long slots have had a task, and none, all of them together."""

    def __init__(self, slots: int, now: float) -> None:
        self._slots = slots
        self._in_use = 0
        self._since = now
        self._busy = self._idle = 0.0

    def change(self, now: float, by: int) -> None:
        """Note that so many more slots have a task from now on."""
        seconds = now - self._since
        self._busy += seconds * self._in_use
        self._idle += seconds * max(0, self._slots - self._in_use)
        self._since = now
        self._in_use += by

    def read(self, now: float) -> tuple[float, float]:
        """Return the seconds with a task, and those without, up to now."""
        self.change(now, 0)
        return self._busy, self._idle


class Measurements:
    """Histograms of run times and waits; added to by the loop, taken by the heartbeat thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, slots: int = 1) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._clock = clock
        self._completed, self._failed = _Rate(clock()), _Rate(clock())
        self._slot_time = _SlotTime(slots, clock())

    def began(self) -> None:
        """Count a slot as in use."""
        with self._lock:
            self._slot_time.change(self._clock(), 1)

    def ended(self) -> None:
        """Count it as free again."""
        with self._lock:
            self._slot_time.change(self._clock(), -1)

    def slot_seconds(self) -> tuple[float, float]:
        """Return how long slots have been busy and idle since the start, all together."""
        with self._lock:
            return self._slot_time.read(self._clock())

    def ran(self, task_type: str, duration_ms: int, *, is_completed: bool) -> None:
        """Count one finished attempt."""
        self._add(DURATION, DURATION_SUM, task_type, duration_ms)
        with self._lock:
            (self._completed if is_completed else self._failed).add(self._clock())

    def rates(self) -> tuple[float, float]:
        """Return how many tasks are completed, and how many attempts fail, a second."""
        with self._lock:
            now = self._clock()
            return self._completed.read(now), self._failed.read(now)

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
