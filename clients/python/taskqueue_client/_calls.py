"""Every operation as a value: the request, and how its answer is read. Nothing is sent here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from attrs import frozen

from taskqueue_client import events
from taskqueue_client._generated import models
from taskqueue_client._generated.api.dead_letters.clear_dead_letters import clear_dead_letters
from taskqueue_client._generated.api.dead_letters.list_dead_letter_groups import (
    list_dead_letter_groups,
)
from taskqueue_client._generated.api.dead_letters.list_dead_letters import list_dead_letters
from taskqueue_client._generated.api.dead_letters.retry_dead_letters import retry_dead_letters
from taskqueue_client._generated.api.events.list_events import list_events
from taskqueue_client._generated.api.queues.get_queue_stats import get_queue_stats
from taskqueue_client._generated.api.queues.pause_queue import pause_queue
from taskqueue_client._generated.api.queues.purge_queue import purge_queue
from taskqueue_client._generated.api.queues.resume_queue import resume_queue
from taskqueue_client._generated.api.search.search_tasks import search_tasks
from taskqueue_client._generated.api.system.health_check import health_check
from taskqueue_client._generated.api.task_types.list_task_types import list_task_types
from taskqueue_client._generated.api.tasks.cancel_task import cancel_task
from taskqueue_client._generated.api.tasks.create_task import create_task
from taskqueue_client._generated.api.tasks.create_tasks import create_tasks
from taskqueue_client._generated.api.tasks.get_task import get_task
from taskqueue_client._generated.api.tasks.list_attempts import list_attempts
from taskqueue_client._generated.api.tasks.retry_task import retry_task
from taskqueue_client._generated.api.workers.get_worker import get_worker
from taskqueue_client._generated.api.workers.list_workers import list_workers
from taskqueue_client._generated.api.workers.pause_worker import pause_worker
from taskqueue_client._generated.api.workers.resume_worker import resume_worker
from taskqueue_client._generated.models import Priority, TaskState
from taskqueue_client.tasks import NewTask, zoned

T = TypeVar("T")

#: Instead of a place in the stream of events: behind the latest one.
LATEST: Final = "latest"
_KEY: Final = re.compile("[!-~]{1,255}")


@frozen(kw_only=True)
class Call(Generic[T]):
    """A request as httpx takes it, and what makes its answer's body a value.

    ``is_repeatable`` tells that sending it twice is as good as once; ``extra_seconds`` is how much
    longer than others its answer may take.
    """

    request: dict[str, Any]
    parse: Callable[[Any], T]
    is_repeatable: bool = True
    extra_seconds: float = 0.0


def _checked(key: str) -> str:
    """Return a key that can be sent; no server could say what is wrong with another one."""
    if not _KEY.fullmatch(key):
        raise ValueError("idempotency_key: 1 to 255 visible ASCII characters are needed")
    return key


def submit(task: NewTask, key: str) -> Call[models.Task]:
    """Submit a task; with its key it may be sent again."""
    request = create_task(body=task.to_request(), idempotency_key=_checked(key))
    return Call(request=request, parse=models.Task.from_dict)


def submit_batch(tasks: Iterable[NewTask], key: str) -> Call[models.CreatedTasks]:
    """Submit many tasks; with its key it may be sent again."""
    body = models.CreateTasksRequest(tasks=[task.to_request() for task in tasks])
    request = create_tasks(body=body, idempotency_key=_checked(key))
    return Call(request=request, parse=models.CreatedTasks.from_dict)


def get(task_id: str, wait_seconds: float = 0.0) -> Call[models.Task]:
    """Get a task, once it has ended or after so long."""
    request = get_task(task_id, wait=wait_seconds)
    return Call(request=request, parse=models.Task.from_dict, extra_seconds=wait_seconds)


def cancel(task_id: str, *, running: bool) -> Call[models.Task]:
    """Cancel a task."""
    return Call(request=cancel_task(task_id, running=running), parse=models.Task.from_dict)


def attempts(task_id: str) -> Call[list[models.Attempt]]:
    """Get the failed attempts of a task."""
    return Call(
        request=list_attempts(task_id),
        parse=lambda found: models.AttemptList.from_dict(found).items,
    )


def search(
    *,
    state: TaskState | str | None,
    type: str | None,
    queue: str | None,
    priority: Priority | str | None,
    metadata: tuple[str, str] | None,
    created_after: datetime | None,
    created_before: datetime | None,
    cursor: str | None,
) -> Call[models.TaskPage]:
    """Find tasks, a page of them."""
    request = search_tasks(
        state=None if state is None else TaskState(state),
        type_=type,
        queue=queue,
        priority=None if priority is None else Priority(priority),
        metadata=None if metadata is None else "=".join(metadata),
        created_after=zoned("created_after", created_after),
        created_before=zoned("created_before", created_before),
        cursor=cursor,
    )
    return Call(request=request, parse=models.TaskPage.from_dict)


def task_types() -> Call[list[models.TaskType]]:
    """List what live workers handle."""
    return Call(
        request=list_task_types(), parse=lambda found: models.TaskTypeList.from_dict(found).items
    )


def past_events(
    *, after: str | None, types: Sequence[str], task_id: str | None, limit: int
) -> Call[events.EventPage]:
    """Get some past events."""
    request = list_events(after=after, task_id=task_id, limit=limit)
    if types:
        # One parameter with commas: the generator would repeat it.
        request["params"]["events"] = ",".join(types)
    return Call(request=request, parse=events.parse_page)


def health() -> Call[models.Health]:
    """Ask how the service is."""
    return Call(request=health_check(), parse=models.Health.from_dict)


def queue_stats() -> Call[models.QueueStats]:
    """Get the depths of the priorities."""
    return Call(request=get_queue_stats(), parse=models.QueueStats.from_dict)


def pause(priority: Priority | str) -> Call[models.QueueChanged]:
    """Start no task of a priority any more."""
    return Call(request=pause_queue(Priority(priority)), parse=models.QueueChanged.from_dict)


def resume(priority: Priority | str) -> Call[models.QueueChanged]:
    """Start tasks of a priority again."""
    return Call(request=resume_queue(Priority(priority)), parse=models.QueueChanged.from_dict)


def purge(priority: Priority | str) -> Call[int]:
    """Cancel what waits at a priority."""
    return Call(
        request=purge_queue(Priority(priority)),
        parse=lambda found: models.QueuePurged.from_dict(found).purged_count,
        is_repeatable=False,  # the second time there is less to count
    )


def workers() -> Call[list[models.Worker]]:
    """List the live workers."""
    return Call(
        request=list_workers(), parse=lambda found: models.WorkerList.from_dict(found).workers
    )


def worker(worker_id: str) -> Call[models.WorkerDetail]:
    """Get a live worker."""
    return Call(request=get_worker(worker_id), parse=models.WorkerDetail.from_dict)


def pause_one(worker_id: str) -> Call[models.WorkerChanged]:
    """Stop a worker from taking tasks."""
    return Call(request=pause_worker(worker_id), parse=models.WorkerChanged.from_dict)


def resume_one(worker_id: str) -> Call[models.WorkerChanged]:
    """Let a worker take tasks again."""
    return Call(request=resume_worker(worker_id), parse=models.WorkerChanged.from_dict)


def dead_letters(
    filters: models.DeadLetterFilter, cursor: str | None
) -> Call[models.DeadLetterList]:
    """Find dead letters, a page of them."""
    request = list_dead_letters(
        type_=filters.type_,
        queue=filters.queue,
        reason=filters.reason,
        error=filters.error,
        cursor=cursor,
    )
    return Call(request=request, parse=models.DeadLetterList.from_dict)


def dead_letter_groups(
    filters: models.DeadLetterFilter,
) -> Call[list[models.DeadLetterGroup]]:
    """Count dead letters by what they died of."""
    request = list_dead_letter_groups(
        type_=filters.type_, queue=filters.queue, reason=filters.reason, error=filters.error
    )
    return Call(
        request=request, parse=lambda found: models.DeadLetterGroupList.from_dict(found).items
    )


def retry(task_id: str) -> Call[models.TaskRequeued]:
    """Send a task that ended without a result back to its queue."""
    return Call(
        request=retry_task(task_id), parse=models.TaskRequeued.from_dict, is_repeatable=False
    )


def retry_dead_letter(
    task_id: str, message_id: str | None, payload: dict[str, Any] | None
) -> Call[models.TaskRequeued]:
    """Send one dead letter back to its queue."""
    body = models.RetryOneDeadLetter(task_id=task_id, message_id=message_id, payload=payload)
    return Call(
        request=retry_dead_letters(body=body),
        parse=models.TaskRequeued.from_dict,
        is_repeatable=False,
    )


def retry_wanted(
    filters: models.DeadLetterFilter, *, dry_run: bool
) -> Call[models.AllDeadLettersRequeued]:
    """Send the dead letters that fit a filter back; without one, all of them."""
    body: models.RetryWantedDeadLetters | models.RetryAllDeadLetters
    if filters.to_dict():
        body = models.RetryWantedDeadLetters(filter_=filters, dry_run=dry_run)
    else:
        body = models.RetryAllDeadLetters(retry_all=True, dry_run=dry_run)
    return Call(
        request=retry_dead_letters(body=body),
        parse=models.AllDeadLettersRequeued.from_dict,
        is_repeatable=False,
    )


def clear() -> Call[int]:
    """Give the dead letters up."""
    return Call(
        request=clear_dead_letters(),
        parse=lambda found: models.DeadLettersCleared.from_dict(found).cleared_count,
        is_repeatable=False,
    )
