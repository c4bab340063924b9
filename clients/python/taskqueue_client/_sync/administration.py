# Generated from _async/administration.py: do not edit, run `make generate-python-client`.
"""What administrators do: queues, workers, dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskqueue_client import _calls
from taskqueue_client._generated.models import (
    AllDeadLettersRequeued,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    Priority,
    QueueStats,
    Worker,
    WorkerDetail,
)
from taskqueue_client._sync.transport import Transport


class Queues:
    """The priority queues."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def stats(self) -> QueueStats:
        """Return how many tasks wait and run, by priority."""
        return self._transport.send(_calls.queue_stats())

    def pause(self, priority: Priority | str) -> None:
        """Start no task of a priority until it is resumed."""
        self._transport.send(_calls.pause(priority))

    def resume(self, priority: Priority | str) -> None:
        """Let tasks of a paused priority start again."""
        self._transport.send(_calls.resume(priority))

    def purge(self, priority: Priority | str) -> int:
        """Cancel all waiting tasks of a priority; return how many there were."""
        return self._transport.send(_calls.purge(priority))


class Workers:
    """The workers that are alive."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[Worker]:
        """Return the live workers."""
        return self._transport.send(_calls.workers())

    def get(self, worker_id: str) -> WorkerDetail:
        """Return a live worker, its handlers and what it runs."""
        return self._transport.send(_calls.worker(worker_id))

    def pause(self, worker_id: str) -> None:
        """Stop a worker from taking new tasks."""
        self._transport.send(_calls.pause_one(worker_id))

    def resume(self, worker_id: str) -> None:
        """Let a paused worker take tasks again."""
        self._transport.send(_calls.resume_one(worker_id))


class DeadLetters:
    """The tasks that ran out of retries.

    Filters are a ``type``, a ``queue``, a ``reason`` and a part of the ``error``; all must fit.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def groups(
        self,
        *,
        type: str | None = None,
        queue: str | None = None,
        reason: str | None = None,
        error: str | None = None,
    ) -> list[DeadLetterGroup]:
        """Return what dead letters died of, and how many of the same, the most first."""
        filters = DeadLetterFilter(type_=type, queue=queue, reason=reason, error=error)
        return self._transport.send(_calls.dead_letter_groups(filters))

    def retry(
        self,
        task_id: str,
        *,
        message_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        """Send one back to its queue, with ``payload`` from now on if there is one.

        With ``message_id`` only if it has not died again since.
        """
        changed = None if payload is None else dict(payload)
        self._transport.send(_calls.retry_dead_letter(task_id, message_id, changed))

    def retry_all(
        self,
        *,
        type: str | None = None,
        queue: str | None = None,
        reason: str | None = None,
        error: str | None = None,
        dry_run: bool = False,
    ) -> AllDeadLettersRequeued:
        """Send back all that fit, without a filter all there are; a dry run only counts them."""
        filters = DeadLetterFilter(type_=type, queue=queue, reason=reason, error=error)
        return self._transport.send(_calls.retry_wanted(filters, dry_run=dry_run))

    def clear(self) -> int:
        """Give all of them up: they become ``failed``; return how many there were."""
        return self._transport.send(_calls.clear())

    def list(
        self,
        *,
        type: str | None = None,
        queue: str | None = None,
        reason: str | None = None,
        error: str | None = None,
    ) -> Iterator[DeadLetter]:
        """Yield dead letters, the newest first."""
        filters = DeadLetterFilter(type_=type, queue=queue, reason=reason, error=error)
        cursor: str | None = None
        while True:
            page = self._transport.send(_calls.dead_letters(filters, cursor))
            yield from page.entries
            cursor = page.next_cursor
            if cursor is None:
                return
