"""Client of taskqueue: ``TaskQueueClient`` blocks, ``AsyncTaskQueueClient`` does not."""

from taskqueue_client._async.client import AsyncTaskQueueClient
from taskqueue_client._async.stream import AsyncEventStream
from taskqueue_client._generated.models import (
    AllDeadLettersRequeued,
    Attempt,
    CreatedTask,
    CreatedTasks,
    DeadLetter,
    DeadLetterGroup,
    EventType,
    Health,
    Priority,
    QueueStats,
    Task,
    TaskState,
    TaskType,
    Worker,
    WorkerDetail,
)
from taskqueue_client._sync.client import TaskQueueClient
from taskqueue_client._sync.stream import EventStream
from taskqueue_client.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    IdempotencyError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    TaskFailedError,
    TaskQueueError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)
from taskqueue_client.events import Event, EventPage, EventsMissed, UnknownEvent
from taskqueue_client.retries import RetryPolicy
from taskqueue_client.tasks import NewTask

__all__ = [
    "TaskQueueClient",
    "AsyncTaskQueueClient",
    "EventStream",
    "AsyncEventStream",
    "NewTask",
    "RetryPolicy",
    # What comes back.
    "AllDeadLettersRequeued",
    "Attempt",
    "CreatedTask",
    "CreatedTasks",
    "DeadLetter",
    "DeadLetterGroup",
    "Event",
    "EventPage",
    "EventType",
    "EventsMissed",
    "Health",
    "Priority",
    "QueueStats",
    "Task",
    "TaskState",
    "TaskType",
    "UnknownEvent",
    "Worker",
    "WorkerDetail",
    # What is raised.
    "TaskQueueError",
    "ApiError",
    "AuthenticationError",
    "ConflictError",
    "IdempotencyError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "TaskFailedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "WaitTimeoutError",
]
