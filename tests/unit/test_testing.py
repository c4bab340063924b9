"""The harness for plugin authors: what it returns and raises is what a worker would see."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from taskqueue_core.errors import PluginError
from taskqueue_core.plugin import (
    DropTask,
    InvalidPayload,
    NonRetryable,
    PluginHost,
    RetryTask,
    TaskContext,
    handler,
)
from taskqueue_core.testing import TimedOut, run_task, task_runner

__all__ = ["task_runner"]  # the fixture, imported as a plugin's conftest.py would


class Order(msgspec.Struct):
    """A payload with one checked field."""

    number: int


@handler("show")
async def show(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Return what the handler was given."""
    seen = {"attempt": ctx.attempt, "metadata": ctx.metadata, "limit": ctx.remaining_seconds}
    return {"payload": payload, "type": ctx.type, **seen}


@handler("double", timeout=3)
def double(ctx: TaskContext, payload: Order) -> dict[str, Any]:
    """Work in a thread."""
    on_loop = threading.current_thread() is threading.main_thread()
    return {"number": payload.number * 2, "on_loop": on_loop, "limit": ctx.remaining_seconds}


@handler("hang")
async def hang(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


@handler("give")
async def give(ctx: TaskContext, payload: dict[str, Any]) -> Any:
    """Return or raise what the name of the case stands for."""
    given = GIFTS[payload["case"]]
    if isinstance(given, Exception):
        raise given
    return given


GIFTS: dict[str, Any] = {
    "tuple": (1, datetime(2030, 1, 1, tzinfo=UTC)),
    "no json": object(),
    "large": "x" * 1_048_577,
    "retry": RetryTask(delay=5),
    "drop": DropTask("pointless"),
    "error": KeyError("k"),
}


@pytest.mark.anyio
async def test_handler_gets_the_facts_of_the_attempt() -> None:
    """Attempt, metadata and timeout are what the call says, the payload went through JSON."""
    result = await run_task(
        show, {"n": 2**70, "pair": (1, 2)}, attempt=3, metadata={"user": "17"}, timeout=60.5
    )
    assert 59 < result.pop("limit") <= 60.5
    assert result == {
        "payload": {"n": 2**70, "pair": [1, 2]},
        "type": "show",
        "attempt": 3,
        "metadata": {"user": "17"},
    }


@pytest.mark.anyio
@pytest.mark.parametrize(("given", "limit"), [(None, 3), (60, 60)])
async def test_thread_handler_runs_in_a_thread(given: float | None, limit: int) -> None:
    """Its own timeout holds unless the call gives one."""
    result = await run_task(double, {"number": 21}, timeout=given)
    assert limit - 1 < result.pop("limit") <= limit
    assert result == {"number": 42, "on_loop": False}


def test_fixture_runs_attempts_from_plain_tests(task_runner: Callable[..., Any]) -> None:
    """A test that is not async gets the same result."""
    assert task_runner(double, {"number": 1})["number"] == 2
    assert task_runner(show, {}, attempt=2)["attempt"] == 2


@pytest.mark.anyio
async def test_payload_is_checked() -> None:
    """A payload the annotation refuses never reaches the function."""
    with pytest.raises(InvalidPayload, match=r"Expected `int`, got `str` - at `\$\.number`"):
        await run_task(double, {"number": "21"})


@pytest.mark.anyio
async def test_result_is_what_a_client_reads() -> None:
    """A result is the JSON it becomes."""
    assert await run_task(give, {"case": "tuple"}) == [1, "2030-01-01T00:00:00Z"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ("no json", NonRetryable, "cannot be stored as JSON"),
        ("large", NonRetryable, "maxresultbytes allows 1048576"),
        ("retry", RetryTask, "asked for a retry"),
        ("drop", DropTask, "pointless"),
        ("error", KeyError, "k"),
    ],
)
async def test_errors_come_out(case: str, error: type[Exception], message: str) -> None:
    """What ends the attempt is raised, the handler's own exceptions as they are."""
    with pytest.raises(error, match=message) as caught:
        await run_task(give, {"case": case})
    if isinstance(GIFTS[case], Exception):
        assert caught.value is GIFTS[case]


@pytest.mark.anyio
async def test_timeout_of_a_coroutine() -> None:
    """At the deadline the handler is cancelled and the attempt has timed out."""
    with pytest.raises(TimedOut, match=r"timed out after 0\.02 s"):
        await run_task(hang, {}, timeout=0.02)


@pytest.mark.anyio
async def test_timeout_of_a_thread() -> None:
    """At the deadline a thread is asked to stop; the attempt has timed out even if it does not."""
    asked = threading.Event()
    release = threading.Event()

    @handler("stubborn")
    def stubborn(ctx: TaskContext, payload: dict[str, Any]) -> None:
        release.wait(20)
        if ctx.cancelled:
            asked.set()

    with pytest.raises(TimedOut, match=r"timed out after 0\.02 s"):
        await run_task(stubborn, {}, timeout=0.02)
    release.set()
    assert asked.wait(20)


@pytest.mark.anyio
async def test_cancelled_test_stops_the_handler() -> None:
    """A test that gives up leaves nothing running."""
    stopped = asyncio.Event()

    @handler("clean")
    async def clean(ctx: TaskContext, payload: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await run_task(clean, {})
    async with asyncio.timeout(20):
        await stopped.wait()


@pytest.mark.anyio
async def test_host_with_one_handler_needs_no_type() -> None:
    """A host stands for its only handler, or for the one that is named."""
    assert (await run_task(PluginHost.of(double), {"number": 2}))["number"] == 4
    host = PluginHost.of(double, show)
    assert (await run_task(host, {}, task_type="show"))["type"] == "show"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("task_type", "message"),
    [("", "needs a task_type: it has double, show"), ("gone", 'has no handler "gone"')],
)
async def test_host_without_the_handler(task_type: str, message: str) -> None:
    """The message says which handlers there are."""
    with pytest.raises(PluginError, match=message):
        await run_task(PluginHost.of(double, show), {}, task_type=task_type)
