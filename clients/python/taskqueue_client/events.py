"""Events as classes: one for each type of the contract, and one for types of newer servers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from attrs import frozen

from taskqueue_client._generated import models
from taskqueue_client._generated.models import (
    EventsMissed,
    QueueDepthReported,
    QueuePaused,
    QueueResumed,
    SystemMetricsReported,
    TaskCancelled,
    TaskCompleted,
    TaskDeadLettered,
    TaskFailed,
    TaskProgress,
    TaskQueued,
    TaskRecovered,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    WorkerJoined,
    WorkerLeft,
    WorkerPaused,
    WorkerResumed,
)

__all__ = [
    "Event",
    "EventPage",
    "EventsMissed",
    "QueueDepthReported",
    "QueuePaused",
    "QueueResumed",
    "SystemMetricsReported",
    "TaskCancelled",
    "TaskCompleted",
    "TaskDeadLettered",
    "TaskFailed",
    "TaskProgress",
    "TaskQueued",
    "TaskRecovered",
    "TaskRetrying",
    "TaskStarted",
    "TaskSubmitted",
    "UnknownEvent",
    "WorkerJoined",
    "WorkerLeft",
    "WorkerPaused",
    "WorkerResumed",
    "parse_event",
    "parse_page",
]


@frozen
class UnknownEvent:
    """An event of a type that this client does not know; a newer server has it."""

    type_: str
    timestamp: datetime
    data: Mapping[str, Any]
    id: str | None = None


Event = (
    TaskSubmitted
    | TaskQueued
    | TaskStarted
    | TaskCompleted
    | TaskRetrying
    | TaskFailed
    | TaskDeadLettered
    | TaskCancelled
    | TaskRecovered
    | TaskProgress
    | WorkerJoined
    | WorkerLeft
    | WorkerPaused
    | WorkerResumed
    | QueuePaused
    | QueueResumed
    | QueueDepthReported
    | SystemMetricsReported
    | EventsMissed
    | UnknownEvent
)


@frozen
class EventPage:
    """Some past events, and where to go on."""

    items: list[Event]
    next_cursor: str


class _Parser(Protocol):
    def __call__(self, src_dict: Mapping[str, Any], /) -> Event: ...


#: Each class by the one value that its ``type`` has.
_PARSERS: Final[dict[str, _Parser]] = {
    models.TaskSubmittedType.TASK_SUBMITTED.value: TaskSubmitted.from_dict,
    models.TaskQueuedType.TASK_QUEUED.value: TaskQueued.from_dict,
    models.TaskStartedType.TASK_STARTED.value: TaskStarted.from_dict,
    models.TaskCompletedType.TASK_COMPLETED.value: TaskCompleted.from_dict,
    models.TaskRetryingType.TASK_RETRYING.value: TaskRetrying.from_dict,
    models.TaskFailedType.TASK_FAILED.value: TaskFailed.from_dict,
    models.TaskDeadLetteredType.TASK_DEAD_LETTER.value: TaskDeadLettered.from_dict,
    models.TaskCancelledType.TASK_CANCELLED.value: TaskCancelled.from_dict,
    models.TaskRecoveredType.TASK_RECOVERED.value: TaskRecovered.from_dict,
    models.TaskProgressType.TASK_PROGRESS.value: TaskProgress.from_dict,
    models.WorkerJoinedType.WORKER_JOINED.value: WorkerJoined.from_dict,
    models.WorkerLeftType.WORKER_LEFT.value: WorkerLeft.from_dict,
    models.WorkerPausedType.WORKER_PAUSED.value: WorkerPaused.from_dict,
    models.WorkerResumedType.WORKER_RESUMED.value: WorkerResumed.from_dict,
    models.QueuePausedType.QUEUE_PAUSED.value: QueuePaused.from_dict,
    models.QueueResumedType.QUEUE_RESUMED.value: QueueResumed.from_dict,
    models.QueueDepthReportedType.QUEUE_DEPTH.value: QueueDepthReported.from_dict,
    models.SystemMetricsReportedType.SYSTEM_METRICS.value: SystemMetricsReported.from_dict,
    models.EventsMissedType.EVENTS_GAP.value: EventsMissed.from_dict,
}


def parse_event(found: Mapping[str, Any]) -> Event:
    """Return an event from its JSON object.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    parse = _PARSERS.get(found["type"])
    if parse is not None:
        return parse(found)
    at = datetime.fromisoformat(found["timestamp"])
    return UnknownEvent(found["type"], at, dict(found["data"]), found.get("id"))


def parse_page(found: Mapping[str, Any]) -> EventPage:
    """Return a page of past events from its JSON object; raises as ``parse_event`` does."""
    return EventPage([parse_event(item) for item in found["items"]], found["next_cursor"])
