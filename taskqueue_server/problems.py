"""Every error answer: which exception becomes which status, and the body they all share."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec

from taskqueue_core.errors import (
    BrokerError,
    BrokerFullError,
    BrokerUnavailableError,
    CapacityError,
    IdempotencyError,
    InvalidTaskError,
    NotFoundError,
    StateConflictError,
    TaskQueueError,
)
from taskqueue_server.framework import ProblemException
from taskqueue_server.messages import Headers, Response

CONTENT_TYPE: Final = b"application/problem+json"
CLOSE: Final = ((b"connection", b"close"),)
_RETRY_LATER: Final = ((b"retry-after", b"1"),)


class ProblemError(Exception):
    """Raised when a request is answered with an error that the core knows nothing about."""

    def __init__(
        self, status: int, kind: str, message: str, *, field: str = "", headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.field = field
        self.headers = headers


def invalid(field: str, rule: str) -> ProblemError:
    """Return the error of a request whose ``field`` breaks a rule; "body" is the whole body."""
    return ProblemError(400, "invalid-request", f"{field}: {rule}", field=field)


#: Error of the core -> status, kind, the message clients read ("" means the error's own), headers.
#: The first class that matches holds. Broker errors name addresses, which are none of theirs.
_TABLE: Final[tuple[tuple[type[TaskQueueError], int, str, str, Headers], ...]] = (
    (InvalidTaskError, 400, "invalid-request", "", ()),
    (NotFoundError, 404, "not-found", "", ()),
    (StateConflictError, 409, "state-conflict", "", ()),
    (IdempotencyError, 422, "idempotency-mismatch", "", ()),
    (CapacityError, 503, "queue-full", "", _RETRY_LATER),
    (BrokerFullError, 503, "broker-full", "the broker is full; try again later", _RETRY_LATER),
    (
        BrokerUnavailableError,
        503,
        "broker-unavailable",
        "the broker cannot be reached now; try again later",
        _RETRY_LATER,
    ),
    (BrokerError, 503, "broker-error", "the broker refuses this service", _RETRY_LATER),
)


def to_problem(error: Exception) -> ProblemError | None:
    """Return what clients are told about ``error``, ``None`` when it is a fault of the server."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ProblemException):
        return _from_connexion(error)
    for kind_of_error, status, kind, message, headers in _TABLE:
        if isinstance(error, kind_of_error):
            field = error.field if isinstance(error, InvalidTaskError) else ""
            return ProblemError(status, kind, message or str(error), field=field, headers=headers)
    return None


def _from_connexion(error: ProblemException) -> ProblemError:
    return ProblemError(int(error.status), "invalid-request", str(error.detail or error.title))


def unauthorized(places: str) -> ProblemError:
    """Return the error of a request without a valid credential; ``places`` is where it may be."""
    message = f"the API key or token is missing, unknown or expired; send it as {places}"
    return ProblemError(401, "unauthorized", message, headers=((b"www-authenticate", b"Bearer"),))


def forbidden(message: str) -> ProblemError:
    """Return the error of a request whose sender is known and may not do this."""
    return ProblemError(403, "forbidden", message)


def too_many_requests(per_second: int, weight: int, seconds: int) -> ProblemError:
    """Return the error of a request that comes too fast; it may come again after ``seconds``."""
    counted = f"; this one counts {weight}" if weight > 1 else ""
    return ProblemError(
        429,
        "rate-limited",
        f"more than {per_second} requests a second (queue.ratelimitrps){counted}; try again in "
        f"{seconds} s",
        headers=((b"retry-after", b"%d" % seconds),),
    )


def not_ready(reason: str) -> ProblemError:
    """Return the error of a probe that asks whether requests may be sent here."""
    return ProblemError(503, "not-ready", reason, headers=_RETRY_LATER)


def internal_error() -> ProblemError:
    """Return what clients are told when the server is at fault: nothing about its inside."""
    return ProblemError(
        500, "internal-error", "the server failed; its log has the reason under the request id"
    )


def problem_fields(problem: ProblemError) -> dict[str, Any]:
    """Return what every answer says about a problem, also one of many in a batch."""
    fields = {"error": HTTPStatus(problem.status).phrase, "message": problem.message}
    if problem.field:
        fields["field"] = problem.field
    return fields


def problem_response(problem: ProblemError, request_id: str = "") -> Response:
    """Return the answer for a problem."""
    fields = problem_fields(problem)
    body: dict[str, Any] = {
        **fields,
        "type": f"urn:taskqueue:problem:{problem.kind}",
        "title": fields["error"],
        "status": problem.status,
        "detail": problem.message,
    }
    if request_id:
        body["request_id"] = request_id
    return Response(
        body=msgspec.json.encode(body),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )
