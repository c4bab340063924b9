"""The task context and the exceptions that steer a task."""

from __future__ import annotations

import math
import time

import pytest
import structlog

from taskqueue_core.plugin import DropTask, RetryTask, TaskCancelled, TaskContext
from taskqueue_core.plugin.context import MESSAGE_LIMIT, request_cancel


def test_context_cannot_be_changed_by_a_handler() -> None:
    """A handler reads its context; only the worker cancels it."""
    ctx = TaskContext(id="1", type="email")
    with pytest.raises(AttributeError):
        ctx.attempt = 7  # type: ignore[misc]


def test_remaining_seconds_never_go_below_zero() -> None:
    """The time left follows the monotonic deadline; without one there is no end."""
    now = time.monotonic()
    assert 50 < TaskContext(id="1", type="a", deadline=now + 60).remaining_seconds <= 60
    assert TaskContext(id="1", type="a", deadline=now - 1).remaining_seconds == 0
    assert TaskContext(id="1", type="a").remaining_seconds == math.inf


def test_cancellation_is_seen_and_the_first_reason_stands() -> None:
    """A thread handler sees the request, why it came, and can stop with one call."""
    ctx = TaskContext(id="1", type="email")
    assert (ctx.cancelled, ctx.cancel_reason) == (False, None)
    ctx.raise_if_cancelled()
    request_cancel(ctx, "timed out")
    request_cancel(ctx, "cancelled")
    assert (ctx.cancelled, ctx.cancel_reason) == (True, "timed out")
    with pytest.raises(TaskCancelled, match="timed out"):
        ctx.raise_if_cancelled()


def test_log_lines_carry_the_task() -> None:
    """Every line of a handler's logger names the task, the attempt and the worker."""
    ctx = TaskContext(id="1", type="email", attempt=2, worker_id="w1")
    with structlog.testing.capture_logs() as lines:
        ctx.log.info("sent", to=3)
    assert ctx.log is ctx.log
    ids = {"task_id": "1", "task_type": "email", "attempt": 2, "worker_id": "w1"}
    assert lines == [ids | {"to": 3, "event": "sent", "log_level": "info"}]


def test_repr_keeps_metadata_out_of_logs() -> None:
    """Metadata may hold secrets and the context's text ends up in logs."""
    shown = repr(TaskContext(id="1", type="email", metadata={"token": "canary"}))
    assert shown == "TaskContext(id='1', type='email', attempt=1)"


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf])
def test_retry_refuses_an_impossible_delay(delay: float) -> None:
    """A delay is a number of seconds from now."""
    with pytest.raises(ValueError, match="delay must be"):
        RetryTask(delay)


def test_retry_keeps_delay_and_reason() -> None:
    """The worker reads both; no delay leaves it to the policy."""
    assert (RetryTask(2.5, "busy").delay, str(RetryTask(2.5, "busy"))) == (2.5, "busy")
    assert (RetryTask().delay, RetryTask().reason) == (None, "")


def test_drop_keeps_its_reason() -> None:
    """The reason is kept with the failed task."""
    assert (DropTask("gone").reason, str(DropTask("gone"))) == ("gone", "gone")


@pytest.mark.parametrize(("said", "told"), [(0, 0.0), (0.5, 0.5), (-3, 0.0), (1.0001, 1.0)])
def test_progress_is_handed_on_within_its_bounds(said: float, told: float) -> None:
    """A rounding error of a handler is not worth an attempt."""
    heard: list[tuple[str, float, str]] = []
    ctx = TaskContext(id="1", type="a", _tell=lambda ctx, *said: heard.append((ctx.id, *said)))
    ctx.progress(said, "é" * 1_000)
    assert heard[0][:2] == ("1", told)
    assert len(heard[0][2].encode()) <= MESSAGE_LIMIT


@pytest.mark.anyio
async def test_progress_may_be_awaited_and_need_not_be() -> None:
    """Handlers of either colour call it; where nobody listens it does nothing."""
    ctx = TaskContext(id="1", type="a")
    ctx.progress(0.5)
    assert await ctx.progress(0.5) is None


@pytest.mark.parametrize("said", [float("nan"), "half", None])
def test_progress_is_a_number(said: float) -> None:
    """Nonsense is told to the one who can mend it."""
    with pytest.raises((ValueError, TypeError)):
        TaskContext(id="1", type="a").progress(said)
