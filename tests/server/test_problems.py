"""Errors of the core as answers: each has its status, and none tells where the broker is."""

from __future__ import annotations

import json

import pytest
from answers import AnswerChecker

from taskqueue_core import errors
from taskqueue_server.problems import ProblemError, problem_response, to_problem

_SECRET = "Error 111 connecting to 10.0.0.1:6379"
_ERRORS = [
    (errors.InvalidTaskError("queue", "is odd"), 400, "invalid-request", False),
    (errors.NotFoundError("task", "1"), 404, "not-found", False),
    (
        errors.StateConflictError("1", "running", "cancelled", "pending"),
        409,
        "state-conflict",
        False,
    ),
    (errors.IdempotencyError(), 422, "idempotency-mismatch", False),
    (errors.CapacityError(10), 503, "queue-full", True),
    (errors.BrokerFullError(_SECRET), 503, "broker-full", True),
    (errors.BrokerUnavailableError(_SECRET), 503, "broker-unavailable", True),
    (errors.SchemaError(_SECRET), 503, "broker-error", True),
    (errors.BrokerError(_SECRET), 503, "broker-error", True),
]


@pytest.mark.parametrize(("error", "status", "kind", "is_temporary"), _ERRORS)
def test_errors_of_the_core(
    error: errors.TaskQueueError, status: int, kind: str, *, is_temporary: bool
) -> None:
    """Status and kind are fixed, and what passes says when to come again."""
    problem = to_problem(error)
    assert problem is not None
    response = problem_response(problem, "request-1")
    body = json.loads(response.body)
    AnswerChecker().validate("Problem", body)
    assert (response.status, body["type"]) == (status, f"urn:taskqueue:problem:{kind}")
    assert ((b"retry-after", b"1") in response.headers) == is_temporary
    assert "10.0.0.1" not in response.body.decode()
    assert body.get("field") == ("queue" if status == 400 else None)


def test_every_error_that_a_request_can_meet_is_in_the_table() -> None:
    """An error that joins the tree needs an answer, too."""
    never = {errors.SettingsError, errors.PluginError, errors.InvalidKeyError}
    start_only = never | {errors.TaskQueueError}
    tree = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TaskQueueError)
    }
    assert {type(row[0]) for row in _ERRORS} == tree - start_only


@pytest.mark.parametrize("error", [ValueError("x"), errors.SettingsError("x"), KeyError("x")])
def test_faults_of_the_server_are_none_of_them(error: Exception) -> None:
    """They are logged and answered with 500 elsewhere."""
    assert to_problem(error) is None
    assert to_problem(ProblemError(418, "teapot", "short and stout")) is not None
