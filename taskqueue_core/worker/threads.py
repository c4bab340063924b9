"""Threads for handlers that are plain functions: as many as a worker has slots."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskqueue_core.plugin import Handler, TaskContext


class Threads:
    """The threads of one worker; they start when they are needed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, handler: Handler, context: TaskContext, argument: Any) -> Any:
        """Run a handler in a thread; return or raise what it does."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, "taskqueue-handler")
        loop = asyncio.get_running_loop()
        # Log lines and spans of the thread belong to the attempt.
        inside = contextvars.copy_context()
        value, error = await loop.run_in_executor(
            self._pool, inside.run, _guarded, handler, context, argument
        )
        if error is not None:
            raise error
        return value

    def renew(self) -> None:
        """Have fresh threads for all slots: one at work cannot be stopped, and ends by itself."""
        if self._pool:
            self._pool.shutdown(wait=False)
            self._pool = None

    def close(self) -> None:
        """Let go of the threads."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _guarded(
    handler: Handler, context: TaskContext, argument: Any
) -> tuple[Any, BaseException | None]:
    """Call a handler in a thread; a future cannot hold every exception, StopIteration for one."""
    try:
        return handler.function(context, argument), None
    except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
        return None, error
