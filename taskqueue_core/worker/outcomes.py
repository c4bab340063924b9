"""From what a handler did to what is reported: pure decisions, tested by tables."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import msgspec

from taskqueue_core.models import Delivery, Outcome, OutcomeKind
from taskqueue_core.plugin import DropTask, NonRetryable, RetryTask
from taskqueue_core.plugin.attempt import described, encoded, named, traced
from taskqueue_core.retry import RetryPolicy

#: Longest wait before a retry that a handler or its policy can ask for, in seconds: ten years.
RETRY_CAP_SECONDS: Final = 315_360_000.0

#: Time in ms after which any worker looks again at a held task that no worker has asked for.
HOLD_MS: Final = 30_000


class TimedOut(Exception):  # noqa: N818 (it is an outcome, not a bug)
    """Raised in place of what a handler did when its time was over."""


class Elsewhere(Exception):  # noqa: N818 (its text names the error that it stands for)
    """Raised in place of what a handler raised in a child process, of the type ``name``."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class Plan:
    """How a task's attempts are limited and spaced, all defaults filled in."""

    timeout_seconds: float
    max_retries: int
    policy: RetryPolicy


def success(delivery: Delivery, value: object, duration_ms: int, *, limit: int) -> Outcome:
    """Return the outcome of a handler that returned ``value``; ``limit`` is in bytes.

    Raises:
        NonRetryable: the value has no JSON form or is too large, which a retry cannot change.
    """
    result = encoded(value, limit)
    return Outcome(
        delivery=delivery, kind=OutcomeKind.COMPLETE, value=result, duration_ms=duration_ms
    )


def completed(delivery: Delivery, result: bytes, duration_ms: int) -> Outcome:
    """Return the outcome of a handler whose result is there as JSON."""
    return Outcome(
        delivery=delivery, kind=OutcomeKind.COMPLETE, value=result, duration_ms=duration_ms
    )


def failure(
    delivery: Delivery,
    error: BaseException,
    duration_ms: int,
    *,
    plan: Plan,
    worker_id: str,
    rng: random.Random,
    trace: str | None = None,
) -> Outcome:
    """Return the outcome of an attempt that ended with ``error``.

    Its traceback is ``trace``, where the error itself was raised in another process.
    """
    text = str(error) if isinstance(error, (TimedOut, Elsewhere)) else described(error)
    return Outcome(
        delivery=delivery,
        kind=OutcomeKind.FAIL,
        value=text.encode(),
        duration_ms=duration_ms,
        delay_ms=_delay_ms(delivery, error, plan.policy, rng),
        max_retries=plan.max_retries,
        reason=_reason(error),
        history=_record(
            delivery, text, traced(error) if trace is None else trace, duration_ms, worker_id
        ),
    )


def error_type(error: BaseException) -> str:
    """Return the name of the type of the error that ended an attempt, wherever it was raised."""
    if isinstance(error, Elsewhere) and error.name:
        return error.name
    return named(error)


def will_retry(outcome: Outcome) -> bool:
    """Tell whether a failed attempt is tried again by itself."""
    return (
        outcome.kind is OutcomeKind.FAIL
        and not outcome.reason
        and outcome.delivery.attempts <= outcome.max_retries
    )


def release(delivery: Delivery) -> Outcome:
    """Return the outcome of a delivery that is given back unfinished."""
    return Outcome(delivery=delivery, kind=OutcomeKind.RELEASE)


def hold(delivery: Delivery, *, give_up_seconds: float) -> Outcome:
    """Return the outcome of a delivery whose type this worker does not know."""
    return Outcome(
        delivery=delivery,
        kind=OutcomeKind.HOLD,
        delay_ms=HOLD_MS,
        duration_ms=round(give_up_seconds * 1000),
    )


def _delay_ms(
    delivery: Delivery, error: BaseException, policy: RetryPolicy, rng: random.Random
) -> int:
    try:
        if isinstance(error, RetryTask) and error.delay is not None:
            seconds = error.delay
        else:
            seconds = policy.delay_seconds(max(1, delivery.attempts), rng)
        return round(max(0.0, min(seconds, RETRY_CAP_SECONDS)) * 1000)
    except (ArithmeticError, TypeError, ValueError):
        # A power that no float holds, or a delay that was set to something else than a number.
        return round(min(policy.max_seconds, RETRY_CAP_SECONDS) * 1000)


def _reason(error: BaseException) -> str:
    if isinstance(error, DropTask):
        return "dropped"
    return "non_retryable" if isinstance(error, NonRetryable) else ""


def _record(delivery: Delivery, text: str, trace: str, duration_ms: int, worker_id: str) -> bytes:
    started = delivery.fetched_at_ms
    return msgspec.json.encode(
        {
            "attempt": delivery.attempts,
            "delivery": delivery.number,
            "worker_id": worker_id,
            "started_at_ms": started,
            "ended_at_ms": started + duration_ms,
            "error": text,
            "traceback": trace,
        }
    )
