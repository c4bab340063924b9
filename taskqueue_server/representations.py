"""The core's values as the JSON of the contract; JSON that was stored is passed on untouched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from taskqueue_core.broker import DeadLetterGroup
from taskqueue_core.codec import format_time
from taskqueue_core.models import (
    Attempt,
    DeadLetter,
    Depth,
    HandlerInfo,
    NewTask,
    Priority,
    QueueStats,
    RunningTask,
    Submitted,
    Task,
    WorkerState,
)
from taskqueue_server.catalog import KnownType

Json = dict[str, Any]

to_json: Final = msgspec.json.Encoder().encode


def task_json(task: Task, *, max_retries: int, timeout: int) -> Json:
    """Return a task, with the limits that hold where it names none."""
    body: Json = {
        "id": task.id,
        "type": task.type,
        "queue": task.queue,
        "payload": msgspec.Raw(task.payload),
        "priority": task.priority.label,
        "state": task.state,
        "attempts": task.attempts,
        "deliveries": task.deliveries,
        "max_retries": max_retries,
        "timeout": timeout,
        "created_at": format_time(task.created_at_ms),
        "updated_at": format_time(task.updated_at_ms),
    }
    if task.error:
        body["error"] = task.error
    if task.is_cancel_requested:
        body["cancel_requested"] = True
    if task.result:
        body["result"] = msgspec.Raw(task.result)
    if task.owner:
        body["owner"] = task.owner
    if task.worker_id:
        body["worker_id"] = task.worker_id
    if task.metadata:
        body["metadata"] = msgspec.Raw(task.metadata)
    times = {
        "started_at": task.started_at_ms,
        "completed_at": task.completed_at_ms,
        "scheduled_at": task.scheduled_at_ms,
        "next_retry_at": task.next_retry_at_ms,
    }
    for name, milliseconds in times.items():
        if milliseconds is not None:
            body[name] = format_time(milliseconds)
    return body


def task_from_submission(new: NewTask, submitted: Submitted) -> Task:
    """Return the task that an accepted submission has become."""
    return Task(
        id=submitted.id,
        type=new.type,
        queue=new.queue,
        priority=new.priority,
        state=submitted.state,
        created_at_ms=submitted.created_at_ms,
        updated_at_ms=submitted.created_at_ms,
        max_retries=new.max_retries,
        timeout_seconds=new.timeout_seconds,
        payload=new.payload,
        metadata=new.metadata,
        scheduled_at_ms=new.scheduled_at_ms,
        owner=new.owner,
    )


def dead_letter_json(letter: DeadLetter, task: Json) -> Json:
    """Return an entry of the dead letter queue; ``task`` is its task as ``task_json`` has it."""
    return {
        "task_id": letter.task.id,
        "task_type": letter.task.type,
        "reason": letter.task.reason,
        "added_at": format_time(letter.added_at_ms),
        "message_id": letter.message_id,
        "original_error": letter.task.error,
        "task": task,
    }


def dead_letter_group_json(group: DeadLetterGroup) -> Json:
    """Return a group of dead letters."""
    return {
        "task_type": group.type,
        "reason": group.reason,
        "error": group.error,
        "count": group.count,
        "latest_at": format_time(group.latest_at_ms),
    }


def attempt_json(attempt: Attempt, *, has_traceback: bool) -> Json:
    """Return a failed attempt."""
    body: Json = {
        "attempt": attempt.attempt,
        "delivery": attempt.delivery,
        "worker_id": attempt.worker_id,
        "started_at": format_time(attempt.started_at_ms),
        "ended_at": format_time(attempt.ended_at_ms),
        "duration_ms": attempt.ended_at_ms - attempt.started_at_ms,
        "error": attempt.error,
    }
    if has_traceback and attempt.traceback:
        body["traceback"] = attempt.traceback
    return body


def task_type_json(known: KnownType) -> Json:
    """Return a task type that live workers handle."""
    body: Json = {
        "type": known.type,
        "queue": known.info.queue,
        "timeout": known.timeout_seconds,
        "max_retries": known.max_retries,
        "executor": known.info.executor,
        "distribution": known.info.distribution,
        "version": known.info.version,
        "worker_count": known.worker_count,
    }
    if known.schemas.payload:
        body["payload_schema"] = known.schemas.payload
    if known.schemas.result:
        body["result_schema"] = known.schemas.result
    return body


def worker_json(worker: WorkerState) -> Json:
    """Return a live worker."""
    return {
        "id": worker.id,
        "state": worker.state,
        "started_at": format_time(worker.started_at_ms),
        "last_heartbeat": format_time(worker.last_heartbeat_ms),
        "active_tasks": worker.active_tasks,
        "concurrency": worker.concurrency,
        "version": worker.version,
    }


def worker_detail_json(worker: WorkerState, running: Sequence[RunningTask]) -> Json:
    """Return a live worker with what it handles and runs."""
    process_id, _, host = worker.process.partition(" ")
    body = worker_json(worker)
    if process_id:
        body |= {"pid": int(process_id), "hostname": host}
    handlers = msgspec.json.decode(worker.handlers, type=dict[str, HandlerInfo])
    return body | {
        "queues": worker.queues,
        "handlers": [_handler_json(name, info) for name, info in sorted(handlers.items())],
        "running": [
            {"task_id": task.id, "type": task.type, "started_at": format_time(task.started_at_ms)}
            for task in running
        ],
        "rates": {
            "completed_per_second": worker.completed_per_second,
            "failed_per_second": worker.failed_per_second,
        },
    }


def _handler_json(name: str, info: HandlerInfo) -> Json:
    body: Json = {
        "type": name,
        "queue": info.queue,
        "executor": info.executor,
        "distribution": info.distribution,
        "version": info.version,
    }
    if info.timeout_seconds is not None:
        body["timeout"] = info.timeout_seconds
    if info.max_retries is not None:
        body["max_retries"] = info.max_retries
    return body


def worker_list_json(workers: Sequence[WorkerState]) -> Json:
    """Return the live workers."""
    return {"workers": [worker_json(worker) for worker in workers], "count": len(workers)}


def queue_stats_json(stats: QueueStats) -> Json:
    """Return the depths of all priorities and their sums."""
    return {
        "queues": {priority.label: _depth_json(depth) for priority, depth in stats.depths.items()},
        "scheduled_count": stats.scheduled_count,
        "dlq_size": stats.dead_letter_count,
        "totals": {
            "queued": sum(depth.queued for depth in stats.depths.values()),
            "pending_unacked": sum(depth.pending_unacked for depth in stats.depths.values()),
            "deferred": stats.scheduled_count,
        },
    }


def _depth_json(depth: Depth) -> Json:
    body: Json = {"queued": depth.queued, "pending_unacked": depth.pending_unacked}
    if depth.is_paused:
        body["paused"] = True
    return body


def waiting_counts(stats: QueueStats) -> dict[str, int]:
    """Return how many tasks wait at each priority, the most urgent first."""
    return {
        priority.label: stats.depths[priority].queued - stats.depths[priority].pending_unacked
        for priority in reversed(Priority)
    }
