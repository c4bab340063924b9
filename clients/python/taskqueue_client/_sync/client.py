# Generated from _async/client.py: do not edit, run `make generate-python-client`.
"""The client that people use."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from taskqueue_client import _calls
from taskqueue_client._connection import make_connection
from taskqueue_client._generated.models import (
    Attempt,
    CreatedTasks,
    EventType,
    Health,
    Priority,
    Task,
    TaskState,
    TaskType,
)
from taskqueue_client._sync.administration import DeadLetters, Queues, Workers
from taskqueue_client._sync.stream import EventStream
from taskqueue_client._sync.transport import Transport
from taskqueue_client._sync.waiting import Waiting
from taskqueue_client.errors import ConflictError, TaskFailedError
from taskqueue_client.events import EventPage
from taskqueue_client.retries import RetryPolicy
from taskqueue_client.tasks import NewTask


class TaskQueueClient:
    """A client of one server; use it as a context manager, or ``close`` it.

    ``queues``, ``workers`` and ``dlq`` are for administrators. Every call may raise an ``ApiError``
    when the server refuses and an ``UnreachableError`` when it does not answer, after it was
    repeated as ``retry`` says.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        api_key: str | None = None,
        token: str | Callable[[], str] | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to nothing yet.

        ``token`` is a JWT, or what returns one that has not expired; ``timeout`` is how many
        seconds the server may take to connect and to answer.

        Raises:
            ValueError: the URL cannot be used, or there are two credentials.
        """
        self._transport = Transport(
            make_connection(
                url,
                api_key=api_key,
                token=token,
                timeout=timeout,
                retry=retry,
                ssl_context=ssl_context,
            )
        )
        self.queues = Queues(self._transport)
        self.workers = Workers(self._transport)
        self.dlq = DeadLetters(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections for requests; streams of events have their own ``close``."""
        self._transport.close()

    def submit_task(  # noqa: PLR0913 -- the fields that a task has
        self,
        type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        priority: Priority | str | int | None = None,
        queue: str | None = None,
        max_retries: int | None = None,
        timeout: int | None = None,
        scheduled_at: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Task:
        """Submit a task and return it as it was accepted.

        It is sent again without danger: each call has an Idempotency-Key, one of its own unless
        ``idempotency_key`` names it.

        Raises:
            ValueError: ``scheduled_at`` has no zone, or there is no such priority or key.
        """
        task = NewTask(
            type=type,
            payload={} if payload is None else payload,
            priority=priority,
            queue=queue,
            max_retries=max_retries,
            timeout=timeout,
            scheduled_at=scheduled_at,
            metadata=metadata,
        )
        return self._transport.send(_calls.submit(task, idempotency_key or uuid.uuid4().hex))

    def submit_batch(
        self, tasks: Iterable[NewTask], *, idempotency_key: str | None = None
    ) -> CreatedTasks:
        """Submit up to 1000 tasks; return what became of each, in their order.

        A task that is refused does not raise: its item has a ``status``, ``error`` and ``message``.
        """
        call = _calls.submit_batch(tasks, idempotency_key or uuid.uuid4().hex)
        return self._transport.send(call)

    def get_task(self, task_id: str) -> Task:
        """Return a task as it is now."""
        return self._transport.send(_calls.get(task_id))

    def wait(self, task_id: str, *, timeout: float = 60.0) -> Task:
        """Return a task once it has ended, however it did.

        Raises:
            WaitTimeoutError: it has not ended within so many seconds.
        """
        return Waiting(self._transport, task_id, timeout, self.events).run()

    def result(self, task_id: str, *, timeout: float = 60.0) -> Any:
        """Return the result of a task once it is completed.

        Raises:
            TaskFailedError: it ended otherwise.
            WaitTimeoutError: it has not ended within so many seconds.
        """
        task = self.wait(task_id, timeout=timeout)
        if task.state != TaskState.COMPLETED:
            raise TaskFailedError(task)
        return task.result

    def cancel_task(self, task_id: str, *, running: bool = False) -> Task:
        """Cancel a task that waits; with ``running`` also have a worker stop it.

        Raises:
            ConflictError: it runs, or has ended.
        """
        try:
            return self._transport.send(_calls.cancel(task_id, running=running))
        except ConflictError as error:
            # When it was sent more than once, the first one may have done it.
            if error.attempts > 1:
                task = self.get_task(task_id)
                if task.state == TaskState.CANCELLED:
                    return task
            raise

    def retry_task(self, task_id: str) -> None:
        """Send a failed, dead-lettered or cancelled task back to its queue."""
        self._transport.send(_calls.retry(task_id))

    def list_attempts(self, task_id: str) -> list[Attempt]:
        """Return the failed attempts of a task, the oldest first."""
        return self._transport.send(_calls.attempts(task_id))

    def list_tasks(
        self,
        *,
        state: TaskState | str | None = None,
        type: str | None = None,
        queue: str | None = None,
        priority: Priority | str | None = None,
        metadata: tuple[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[Task]:
        """Yield the tasks that fit all filters, page by page; for administrators.

        ``metadata`` is a name and its value.
        """
        cursor: str | None = None
        while True:
            page = self._transport.send(
                _calls.search(
                    state=state,
                    type=type,
                    queue=queue,
                    priority=priority,
                    metadata=metadata,
                    created_after=created_after,
                    created_before=created_before,
                    cursor=cursor,
                )
            )
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def list_task_types(self) -> list[TaskType]:
        """Return what live workers handle."""
        return self._transport.send(_calls.task_types())

    def events(
        self,
        *types: EventType | str,
        task_id: str | None = None,
        since: str | None = None,
        reconnect_seconds: float = 300.0,
    ) -> EventStream:
        """Return a stream of events from now on, or from behind ``since``, an event's ``id``.

        Only those of some ``types`` and of one task, where they are named. A lost connection is
        made again until it could not be for ``reconnect_seconds``; the first one is tried as often
        as a request.
        """
        return EventStream(
            self._transport,
            types,
            task_id=task_id,
            since=since,
            reconnect_seconds=reconnect_seconds,
        )

    def past_events(
        self,
        *types: EventType | str,
        after: str | None = None,
        task_id: str | None = None,
        limit: int = 100,
    ) -> EventPage:
        """Return a page of past events, without ``after`` from the oldest that is kept."""
        call = _calls.past_events(
            after=after, types=[str(one) for one in types], task_id=task_id, limit=limit
        )
        return self._transport.send(call)

    def health(self) -> Health:
        """Return how the service is; raises UnavailableError when it cannot work."""
        return self._transport.send(_calls.health())
