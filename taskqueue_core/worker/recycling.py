"""When a worker process is replaced: handlers that nothing can stop pile up in it.

Their slots have gone to other tasks, but their threads and their memory stay. So the process
stops as if it were told to, and whoever started it starts it again. It lives for at least a
minute, so that a handler that always hangs does not keep the worker from all other tasks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

#: A process is replaced at this age, in seconds, or later.
LEAST_AGE_SECONDS: Final = 60.0
#: Most task ids in the log line.
_NAMED: Final = 20


class Recycling:
    """Decides that one worker process has to be replaced; made when that starts.

    ``is_due`` once it is decided. ``drain`` is to make the worker stop, ``count_stuck`` tells how
    many handlers are at work beyond their time.
    """

    def __init__(
        self, worker_id: str, *, drain: Callable[[], None], count_stuck: Callable[[], int]
    ) -> None:
        self.is_due = False
        self._drain = drain
        self._count_stuck = count_stuck
        self._born_at = time.monotonic()
        self._is_off = False
        self._stuck: dict[str, None] = {}
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)

    def stuck(self, task_id: str) -> None:
        """Take note of a task whose handler does not stop."""
        is_first = not self._stuck
        self._stuck[task_id] = None
        if is_first:
            wait = max(0.0, self._born_at + LEAST_AGE_SECONDS - time.monotonic())
            asyncio.get_running_loop().call_later(wait, self._decide)

    def call_off(self) -> bool:
        """Replace nothing: the worker is told to stop for good; whether it was stopping so far."""
        self._is_off = True
        was_due, self.is_due = self.is_due, False
        return was_due

    def _decide(self) -> None:
        named, self._stuck = list(self._stuck)[:_NAMED], {}
        # Some end after all.
        if self._is_off or not self._count_stuck():
            return
        self.is_due = True
        self._log.error(
            "handlers do not stop after their timeout: this process is replaced",
            task_ids=named,
            stuck=self._count_stuck(),
        )
        self._drain()
