"""Tell listeners what handlers say about their progress, a bounded number of times.

A task is told of at once, then at most once a second: what its handler says in between replaces
what it said before. Whatever is said when the task has ended is of no use to anybody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from taskqueue_core.broker import WorkerSession
from taskqueue_core.broker.sessions import Report
from taskqueue_core.keys import id_to_hex
from taskqueue_core.plugin import TaskContext
from taskqueue_core.worker.executor import Executor

#: Seconds between two calls.
INTERVAL_SECONDS: Final = 1.0
#: Most tasks in one call.
BATCH: Final = 100


class Progress:
    """The way from the handlers of one partition's tasks to its broker.

    ``post`` makes of a call one that other threads may make.
    """

    def __init__(
        self,
        session: WorkerSession,
        executor: Executor,
        post: Callable[[Callable[[None], None]], Callable[[None], None]],
    ) -> None:
        self._session = session
        self._executor = executor
        self._lock = threading.Lock()
        self._said: dict[tuple[str, int], tuple[float, str]] = {}
        self._is_said = asyncio.Event()
        self._wake = post(lambda _: self._is_said.set())
        self._request = 0
        self._unanswered: list[Report] = []

    def note(self, context: TaskContext, fraction: float, message: str) -> None:
        """Take down what a handler says; from any thread."""
        with self._lock:
            is_first = not self._said
            self._said[id_to_hex(context.id), int(context.fence)] = fraction, message
        if is_first:
            self._wake(None)

    async def run_once(self) -> float:
        """Wait for something to tell and tell it; the seconds until there may be more."""
        if not self._unanswered:
            await self._is_said.wait()
            self._unanswered = self._take()
        if self._unanswered:
            await self._session.progress(self._unanswered, request=self._request)
            self._request += 1
            self._unanswered = []
        return INTERVAL_SECONDS

    def _take(self) -> list[Report]:
        """Return reports of tasks that are still at work."""
        reports: list[Report] = []
        with self._lock:
            while self._said and len(reports) < BATCH:
                key = next(iter(self._said))
                fraction, message = self._said.pop(key)
                running = self._executor.running.get(key)
                if running and not running.is_over:
                    reports.append(Report(running.delivery, fraction, message))
            if not self._said:
                self._is_said.clear()
        return reports
