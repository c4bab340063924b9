"""What a handler is told about the task it runs.

One is made per delivery, tens of thousands a second, so it is a frozen struct without any work
in its construction. The worker cancels one through ``request_cancel``; a handler only reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Final, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from taskqueue_core.codec import trim_text
from taskqueue_core.models import DEFAULT_QUEUE, Priority
from taskqueue_core.plugin.control import TaskCancelled

#: Longest message of a progress report that is kept, in bytes.
MESSAGE_LIMIT: Final = 256


class _Noted:
    """Something that may be awaited, and is done already."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_NOTED: Final = _Noted()


class TaskContext(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The task behind one call of a handler.

    ``attempt`` counts from 1 and goes up to ``max_retries`` + 1. ``deadline`` is the time by
    ``time.monotonic()`` at which the worker stops the attempt. ``fence`` grows with every
    delivery of the task: a store that remembers the highest one it saw can refuse the writes of
    an attempt that was taken for dead. ``priority`` runs from 0 (low) to 3 (critical).
    ``worker_id`` is who runs it.
    """

    id: str
    type: str
    queue: str = DEFAULT_QUEUE
    priority: int = Priority.NORMAL
    attempt: int = 1
    max_retries: int = 0
    metadata: Mapping[str, str] = {}
    deadline: float = math.inf
    fence: str = ""
    worker_id: str = ""
    _cancel_reason: str | None = None
    _log: FilteringBoundLogger | None = None
    _tell: Callable[[TaskContext, float, str], None] | None = None

    def __repr__(self) -> str:
        # It ends up in log lines, where metadata has no place.
        return f"TaskContext(id={self.id!r}, type={self.type!r}, attempt={self.attempt})"

    @property
    def remaining_seconds(self) -> float:
        """Return the time left before the attempt is stopped, never below 0."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Tell whether the attempt has been asked to stop; may be read from any thread."""
        return self._cancel_reason is not None

    @property
    def cancel_reason(self) -> str | None:
        """Return why the attempt has to stop, ``None`` while it may go on."""
        return self._cancel_reason

    def raise_if_cancelled(self) -> None:
        """Stop here when asked to; a long loop in a thread handler calls it every now and then.

        Raises:
            TaskCancelled: the attempt has been asked to stop.
        """
        if self._cancel_reason is not None:
            raise TaskCancelled(self._cancel_reason)

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Say how far the attempt is, to those who follow events; never waits, never fails.

        May be called from coroutines, threads and child processes, as often as one likes:
        listeners get a ``task.progress`` at once, then the latest at most once a second. It need
        not be awaited, and may be. Nothing about it is stored with the task.

        Args:
            fraction: the part that is done; what is outside of 0 to 1 becomes the nearer of them.
            message: a text for people, cut to 256 bytes. Everybody who may see events sees it.

        Raises:
            ValueError: ``fraction`` is not a number.
        """
        part = min(max(float(fraction), 0.0), 1.0)
        if math.isnan(part):
            raise ValueError("fraction must be a number from 0 to 1")
        if self._tell is not None:
            self._tell(self, part, trim_text(message, MESSAGE_LIMIT))
        return _NOTED

    @property
    def log(self) -> FilteringBoundLogger:
        """Return a logger whose lines carry the task's id, type and attempt, and the worker's id.

        It is bound when first asked for: most handlers never log, and binding costs more than
        everything else here.
        """
        log = self._log
        if log is None:
            bound = structlog.get_logger("taskqueue.handler").bind(**describe(self))
            log = cast("FilteringBoundLogger", bound)
            msgspec.structs.force_setattr(self, "_log", log)
        return log


def describe(context: TaskContext) -> dict[str, object]:
    """Return what every log line about an attempt says."""
    return {
        "task_id": context.id,
        "task_type": context.type,
        "attempt": context.attempt,
        "worker_id": context.worker_id,
    }


def request_cancel(context: TaskContext, reason: str) -> None:
    """Ask the attempt to stop; for the worker only, from any thread.

    The first reason stands. The field is one reference, so a reader sees the old or the new one.
    """
    if not context.cancelled:
        msgspec.structs.force_setattr(context, "_cancel_reason", reason)


def set_deadline(context: TaskContext, deadline: float) -> None:
    """Move the deadline, by ``time.monotonic()``; for the worker only, before the handler runs."""
    msgspec.structs.force_setattr(context, "deadline", deadline)
