"""When the Python client sends a request again, and what it makes of strange answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from blocking_facade import Connect
from scripted_server import COMPLETED, HANG_UP, TASK, Answer, Scripted, scripted_http

from taskqueue_client import (
    ApiError,
    ConflictError,
    RateLimitedError,
    RetryPolicy,
    TaskQueueClient,
    TaskState,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
)
from taskqueue_client.retries import may_pass

FAST = RetryPolicy(attempts=4, initial_seconds=0.001, max_seconds=0.002)


def problem(status: int, **headers: str) -> Answer:
    """Return a refusal as the server words it."""
    body = {"error": "text", "message": f"no {status}", "type": f"urn:{status}", "status": status}
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, {"Content-Type": "application/problem+json", **shown})


@contextmanager
def asked(
    connect: Connect, *answers: Answer, retry: RetryPolicy = FAST
) -> Iterator[tuple[Scripted, TaskQueueClient]]:
    """Yield a server that gives these answers in turn, and a client of it."""
    with scripted_http(*answers) as server, connect(server.url, retry=retry) as client:
        yield server, client


TOO_MANY, AWAY = problem(429, Retry_After="0"), problem(503, Retry_After="0")


def test_a_submission_is_repeated_with_its_key(connect: Connect) -> None:
    """Lost connections, 429 and 503 are repeated: the same bytes with the same key."""
    answers = (HANG_UP, TOO_MANY, AWAY, Answer(201, TASK))
    with asked(connect, *answers) as (server, client):
        assert client.submit_task("echo", {"n": 1}).id == TASK["id"]
    keys = {headers["idempotency-key"] for _, _, headers, _ in server.requests}
    bodies = {body for *_, body in server.requests}
    assert (len(server.requests), len(keys), len(bodies)) == (4, 1, 1)
    assert json.loads(bodies.pop()) == {"type": "echo", "payload": {"n": 1}}


def test_every_submission_has_a_key_of_its_own(connect: Connect) -> None:
    """Two that look the same are two tasks, unless somebody names them."""
    answers = [Answer(201, TASK), Answer(201, TASK), Answer(201, TASK)]
    with asked(connect, *answers) as (server, client):
        client.submit_task("echo")
        client.submit_task("echo")
        client.submit_task("echo", idempotency_key="mine")
    keys = [headers["idempotency-key"] for _, _, headers, _ in server.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_it_gives_up(connect: Connect) -> None:
    """After so many attempts the last refusal is raised, with all that it says."""
    with (
        asked(connect, *[AWAY] * 4) as (server, client),
        pytest.raises(UnavailableError, match="503 text: no 503") as caught,
    ):
        client.get_task("1")
    assert len(server.requests) == 4
    assert (caught.value.attempts, caught.value.kind) == (4, "urn:503")
    assert caught.value.retry_after == 0


def test_what_does_not_pass_is_not_repeated(connect: Connect) -> None:
    """A refusal that another time would not change is raised at once."""
    with asked(connect, problem(409)) as (server, client), pytest.raises(ConflictError) as caught:
        client.cancel_task("1")
    assert (len(server.requests), caught.value.attempts) == (1, 1)


@pytest.mark.parametrize("answer", [AWAY, HANG_UP])
def test_what_is_not_safe_to_repeat(connect: Connect, answer: Answer) -> None:
    """It is not sent again when it may have been carried out, but when it certainly was not."""
    counted = Answer(200, {"message": "queue purged", "priority": "low", "purged_count": 3})
    with (
        asked(connect, answer) as (server, client),
        pytest.raises((UnavailableError, UnreachableError)),
    ):
        client.queues.purge("low")
    assert len(server.requests) == 1
    with asked(connect, TOO_MANY, counted) as (server, client):
        assert client.queues.purge("low") == 3


def test_a_cancellation_whose_answer_was_lost(connect: Connect) -> None:
    """The second one is refused because the first one did it: that is no conflict."""
    cancelled = Answer(200, {**TASK, "state": "cancelled"})
    with asked(connect, HANG_UP, problem(409), cancelled) as (_, client):
        assert client.cancel_task(TASK["id"]).state == TaskState.CANCELLED
    with (
        asked(connect, HANG_UP, problem(409), Answer(200, COMPLETED)) as (_server, client),
        pytest.raises(ConflictError),
    ):
        client.cancel_task(TASK["id"])


def test_nobody_listens(connect: Connect) -> None:
    """That is said with the address, after a few attempts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with (
            connect(url, retry=FAST) as client,
            pytest.raises(UnreachableError, match=r"127\.0\.0\.1") as caught,
        ):
            client.queues.purge("low")
    assert (caught.value.is_unsent, caught.value.attempts) == (True, 4)


def test_retry_after_is_waited_for(connect: Connect) -> None:
    """However short the pauses are by themselves; but not for ever."""
    answers = (problem(429, Retry_After="1"), Answer(200, TASK))
    started = time.monotonic()
    with asked(connect, *answers) as (_, client):
        client.get_task("1")
    assert time.monotonic() - started >= 1
    with (
        asked(connect, problem(429, Retry_After="3600")) as (_server, client),
        pytest.raises(RateLimitedError),
    ):
        client.get_task("1")


@pytest.mark.parametrize("body", ["<html>", "[]", "null", json.dumps({"id": "1"})])
def test_an_answer_that_makes_no_sense(connect: Connect, body: str) -> None:
    """Something else than our server is there: that is said, not a KeyError."""
    with (
        asked(connect, Answer(200, body)) as (_server, client),
        pytest.raises(UnexpectedAnswerError, match="GET /api/v1/tasks/1"),
    ):
        client.get_task("1")


def test_an_answer_that_cannot_be_read(connect: Connect) -> None:
    """It is not sent again: that would not make it better."""
    garbled = Answer(200, TASK, {"Content-Encoding": "gzip"})
    with (
        asked(connect, garbled) as (server, client),
        pytest.raises(UnexpectedAnswerError, match="cannot be read"),
    ):
        client.get_task("1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", ["<html>", "[]", "", json.dumps({"message": 5})])
def test_a_refusal_in_other_words(connect: Connect, body: str) -> None:
    """A proxy's page is an ApiError as well."""
    with (
        asked(connect, Answer(502, body, {"X-Request-ID": "r1"})) as (_server, client),
        pytest.raises(ApiError) as caught,
    ):
        client.get_task("1")
    assert (caught.value.status, caught.value.error) == (502, "Bad Gateway")
    assert caught.value.request_id == "r1"


def test_a_newer_server_breaks_nothing(connect: Connect) -> None:
    """Unknown states and priorities are values of their enum, unknown fields are kept."""
    newer = {**TASK, "state": "hibernating", "priority": "urgent", "mood": {"good": True}}
    with asked(connect, Answer(200, newer)) as (_server, client):
        task = client.get_task("1")
    assert (task.state, task.priority) == ("hibernating", "urgent")
    assert isinstance(task.state, TaskState)
    assert task.state not in set(TaskState)
    assert task["mood"] == {"good": True}
    assert task.to_dict()["state"] == "hibernating"


def test_an_ambitious_server_is_not_degraded_or_healthy(connect: Connect) -> None:
    """Words with one value today may have another one tomorrow."""
    health: dict[str, Any] = {
        "status": "splendid",
        "redis": "sharded",
        "checks": {"broker": {"status": "superb", "message": "m"}},
    }
    with asked(connect, Answer(200, health)) as (_server, client):
        found = client.health()
    assert (found.status, found.redis, found.checks.broker.status) == (
        "splendid",
        "sharded",
        "superb",
    )


def test_pauses_grow_to_a_limit() -> None:
    """They double, half of each is left to chance, and there is a longest one."""
    policy = RetryPolicy(initial_seconds=0.1, max_seconds=5)
    longest = [policy.backoff_seconds(failures, chance=0.0) for failures in range(1, 100)]
    assert longest[:7] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5])
    assert set(longest[6:]) == {5}
    assert all(after >= before for before, after in pairwise(longest))
    assert policy.backoff_seconds(1, chance=1.0) == pytest.approx(0.05)


def test_what_may_pass() -> None:
    """Other errors are no reason to ask again."""
    assert not may_pass(ValueError())
    assert not may_pass(UnexpectedAnswerError())
    assert not may_pass(UnreachableError("lost"), is_repeatable=False)
    assert may_pass(UnreachableError("refused", is_unsent=True), is_repeatable=False)
