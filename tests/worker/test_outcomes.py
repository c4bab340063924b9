"""From what a handler did to what is reported: tables."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import msgspec
import pytest
from crew import delivery

from taskqueue_core.models import Outcome, OutcomeKind
from taskqueue_core.plugin import DropTask, InvalidPayload, NonRetryable, RetryTask
from taskqueue_core.plugin.attempt import ERROR_LIMIT, TRACEBACK_LIMIT
from taskqueue_core.retry import RetryPolicy
from taskqueue_core.worker import outcomes
from taskqueue_core.worker.outcomes import RETRY_CAP_SECONDS, Plan

POLICY = RetryPolicy(initial_seconds=1, factor=2, max_seconds=10, jitter=0)
CAP_MS = round(RETRY_CAP_SECONDS * 1000)


def failed(error: BaseException, *, attempts: int = 1, policy: RetryPolicy = POLICY) -> Outcome:
    return outcomes.failure(
        delivery(attempts=attempts),
        error,
        5,
        plan=Plan(30, 2, policy),
        worker_id="w1",
        rng=random.Random(1),
    )


class MuteError(Exception):
    """Has no text that can be shown, and wrong notes."""

    __notes__ = 3

    def __str__(self) -> str:
        raise SystemExit(4)


def raised(text: str) -> ValueError:
    """Return an error that has been raised, and so has a traceback."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (it is the one raised here)
        _raise(text)
    return caught.value


def _raise(text: str) -> None:
    raise ValueError(text)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, b"null"),
        ({"a": None, "b": [1.5, True]}, b'{"a":null,"b":[1.5,true]}'),
        (2**70, b"1180591620717411303424"),
        ("null", b'"null"'),
    ],
)
def test_results_are_stored_as_json(value: object, stored: bytes) -> None:
    """A value that has a JSON form completes its task with it."""
    outcome = outcomes.success(delivery(), value, 7, limit=100)
    assert (outcome.kind, outcome.value, outcome.duration_ms) == (OutcomeKind.COMPLETE, stored, 7)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "Encoding objects of type object"),
        (float("nan"), "not JSON compliant"),
        ({"deep": [None, -float("inf")]}, "not JSON compliant"),
        ("\ud800", "surrogates not allowed"),
        ({(1, 2): 3}, "keys"),
        (nested(100_000), "nests too deep"),
        ("x" * 99, "101 bytes, worker.maxresultbytes allows 100"),
    ],
)
def test_results_without_a_json_form_are_errors_that_no_retry_cures(
    value: object, problem: str
) -> None:
    """Nothing is stored in place of what cannot be stored, and nothing is changed unasked."""
    with pytest.raises(NonRetryable, match=problem):
        outcomes.success(delivery(), value, 7, limit=100)


@pytest.mark.parametrize(
    ("error", "text", "reason", "delay_ms"),
    [
        (ValueError("bad"), "ValueError: bad", "", 1000),
        (Exception("bad"), "bad", "", 1000),
        (KeyboardInterrupt(), "KeyboardInterrupt: ", "", 1000),
        (SystemExit(3), "SystemExit: 3", "", 1000),
        (asyncio.CancelledError(), "the handler cancelled itself", "", 1000),
        (outcomes.TimedOut("timed out after 3 s"), "timed out after 3 s", "", 1000),
        (RetryTask(2.5, "busy"), "busy", "", 2500),
        (RetryTask(0, "busy"), "busy", "", 0),
        (RetryTask(None, "busy"), "busy", "", 1000),
        (RetryTask(1e306), "the handler asked for a retry", "", CAP_MS),
        (DropTask("old"), "old", "dropped", 1000),
        (NonRetryable("no"), "no", "non_retryable", 1000),
        (InvalidPayload("$.a"), "invalid payload: $.a", "non_retryable", 1000),
        (MuteError(), "MuteError: its text cannot be shown", "", 1000),
        (ValueError("\ud800"), "ValueError: ?", "", 1000),
    ],
)
def test_errors(error: BaseException, text: str, reason: str, delay_ms: int) -> None:
    """Every exception becomes a failure with a text, a reason and a delay."""
    outcome = failed(error)
    assert (outcome.kind, outcome.value.decode()) == (OutcomeKind.FAIL, text)
    assert (outcome.reason, outcome.delay_ms, outcome.max_retries) == (reason, delay_ms, 2)
    assert msgspec.json.decode(outcome.history)["error"] == text


@pytest.mark.parametrize(("attempt", "delay_ms"), [(1, 1000), (2, 2000), (3, 4000), (9, 10_000)])
def test_the_delay_grows_with_the_attempt(attempt: int, delay_ms: int) -> None:
    """The n-th failure waits for the policy's n-th delay."""
    assert failed(ValueError(), attempts=attempt).delay_ms == delay_ms


def test_delays_that_no_number_holds_are_the_longest() -> None:
    """A power beyond floats, infinity, or a delay that was replaced by nonsense."""
    steep = RetryPolicy(factor=1e300, max_seconds=60, jitter=0)
    endless = RetryPolicy(initial_seconds=float("inf"), max_seconds=float("inf"))
    odd = RetryTask(1)
    odd.delay = "soon"  # type: ignore[assignment]
    assert failed(ValueError(), attempts=9, policy=steep).delay_ms == 60_000
    assert failed(ValueError(), policy=endless).delay_ms == CAP_MS
    assert failed(odd).delay_ms == 10_000


def test_long_texts_are_cut() -> None:
    """Errors and tracebacks are kept within their limits, whatever is in them."""
    outcome = failed(raised("é\ud800" * 1_000_000))
    record = msgspec.json.decode(outcome.history)
    assert len(outcome.value) <= ERROR_LIMIT
    assert len(record["traceback"].encode()) <= TRACEBACK_LIMIT
    assert outcome.value.decode().endswith(" [cut]")


def test_the_record_of_an_attempt() -> None:
    """A failed attempt leaves who, when, what and where."""
    record = json.loads(failed(raised("bad")).history)
    trace = record.pop("traceback")
    assert record == {
        "attempt": 1,
        "delivery": 1,
        "worker_id": "w1",
        "started_at_ms": 2,
        "ended_at_ms": 7,
        "error": "ValueError: bad",
    }
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: bad\n")


@pytest.mark.parametrize(
    ("attempts", "error", "expected"),
    [
        (1, ValueError(), True),
        (2, ValueError(), True),
        (3, ValueError(), False),
        (1, DropTask("x"), False),
        (1, NonRetryable("x"), False),
    ],
)
def test_which_failures_are_tried_again(attempts: int, error: Exception, *, expected: bool) -> None:
    """As the broker decides: while attempts are left, and no reason speaks against it."""
    assert outcomes.will_retry(failed(error, attempts=attempts)) is expected


def test_holding() -> None:
    """Half a minute, unless a worker that has a handler asks for it before."""
    outcome = outcomes.hold(delivery(), give_up_seconds=60)
    assert (outcome.kind, outcome.delay_ms) == (OutcomeKind.HOLD, 30_000)
    assert outcome.duration_ms == 60_000
