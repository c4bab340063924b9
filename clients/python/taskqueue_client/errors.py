"""Everything that the client raises.

TaskQueueError
├── ApiError                     the server refuses
│   ├── InvalidRequestError      400, 413, 415: the request breaks a rule
│   ├── AuthenticationError      401: the key or token is missing, unknown or expired
│   ├── PermissionDeniedError    403: it lacks the scope that is needed
│   ├── NotFoundError            404: there is no such task, worker or dead letter
│   ├── ConflictError            409: the state of the task does not allow it
│   ├── IdempotencyError         422: the Idempotency-Key was used for another request
│   ├── RateLimitedError         429: too many requests
│   └── UnavailableError         503: the queue is full, or the broker cannot be reached
├── UnreachableError             there is no answer
├── UnexpectedAnswerError        there is one that no server of this contract gives
├── TaskFailedError              the task ended, but not as completed
└── WaitTimeoutError             the task has not ended in time
"""

from __future__ import annotations

from typing import Any, Final

from taskqueue_client._generated.models import Task


class TaskQueueError(Exception):
    """Base of everything that the client raises."""


class ApiError(TaskQueueError):
    """Raised when the server refuses a request.

    ``status`` is the HTTP status and ``error`` its text, ``message`` says what happened and what
    to do next, ``kind`` is the stable name of the problem, ``field`` the field that breaks a rule,
    ``request_id`` what the server's log knows the request by. ``attempts`` is how often it was
    sent, ``retry_after`` the seconds after which the server wants to be asked again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error: str = "",
        kind: str = "",
        field: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error = error
        self.kind = kind
        self.field = field
        self.request_id = request_id
        self.retry_after = retry_after
        self.attempts = 1

    def __str__(self) -> str:
        shown = f"{self.status} {self.error}".strip() + f": {self.message}"
        return f"{shown} (request {self.request_id})" if self.request_id else shown


class InvalidRequestError(ApiError):
    """Raised when the request breaks a rule of the contract; ``field`` names the field."""


class AuthenticationError(ApiError):
    """Raised when the API key or token is missing, unknown or expired."""


class PermissionDeniedError(ApiError):
    """Raised when the API key or token lacks the scope that the operation needs."""


class NotFoundError(ApiError):
    """Raised when there is no such task, worker or dead letter."""


class ConflictError(ApiError):
    """Raised when the state of the task does not allow the change."""


class IdempotencyError(ApiError):
    """Raised when the Idempotency-Key was used for another request."""


class RateLimitedError(ApiError):
    """Raised when there were too many requests, and repeating this one did not help."""


class UnavailableError(ApiError):
    """Raised when the queue is full or the broker away, and repeating did not help."""


class UnreachableError(TaskQueueError):
    """Raised when the server does not answer, and repeating did not help.

    ``is_unsent`` tells that nothing of the request can have reached it.
    """

    def __init__(self, message: str, *, is_unsent: bool = False) -> None:
        super().__init__(message)
        self.is_unsent = is_unsent
        self.attempts = 1


class UnexpectedAnswerError(TaskQueueError):
    """Raised when an answer is none that a server of this contract gives."""


class TaskFailedError(TaskQueueError):
    """Raised when the result of a task is wanted that ended without one; ``task`` is the task."""

    def __init__(self, task: Task) -> None:
        why = f": {task.error}" if task.error else ""
        super().__init__(f"task {task.id} is {task.state}{why}")
        self.task = task


class WaitTimeoutError(TaskQueueError, TimeoutError):
    """Raised when a task has not ended in time; ``task`` is the task as it was last seen."""

    def __init__(self, task: Task, seconds: float) -> None:
        super().__init__(f"task {task.id} is still {task.state} after {seconds:g} s")
        self.task = task


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: IdempotencyError,
    429: RateLimitedError,
    503: UnavailableError,
}


def make_api_error(
    status: int, reason: str, problem: Any, *, request_id: str | None, retry_after: str | None
) -> ApiError:
    """Return the error for an answer, whose body may be anything: a proxy may have made it."""
    known: dict[str, Any] = problem if isinstance(problem, dict) else {}

    def text(name: str) -> str | None:
        return str(known[name]) if known.get(name) else None

    return _BY_STATUS.get(status, ApiError)(
        status,
        text("message") or text("detail") or "the answer does not say why",
        error=text("error") or reason,
        kind=text("type") or "",
        field=text("field"),
        request_id=request_id or text("request_id"),
        retry_after=_parse_seconds(retry_after),
    )


def _parse_seconds(text: str | None) -> float | None:
    """Return the seconds of a Retry-After; dates, which our servers do not send, are ignored."""
    return float(text) if text and text.isascii() and text.isdigit() else None
