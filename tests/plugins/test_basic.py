"""The plugin taskqueue-basic: echo, sleep, compute and fail."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import taskqueue_basic

from taskqueue_core.plugin import Handler, InvalidPayload, PluginHost, TaskCancelled, TaskContext
from taskqueue_core.plugin.context import request_cancel

HOST = PluginHost.of(taskqueue_basic)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def context(task_type: str) -> TaskContext:
    return TaskContext(id="1", type=task_type)


async def run(task_type: str, payload: dict[str, Any]) -> Any:
    """Run a handler the way a worker does: decode, then loop or thread."""
    one: Handler = HOST.handlers[task_type]
    value = one.decode(payload)
    if one.is_async:
        return await one.function(context(task_type), value)
    return await asyncio.to_thread(one.function, context(task_type), value)


def assert_is_now(text: str) -> None:
    """Check a time of a result: RFC 3339 UTC, three digits of milliseconds, just now."""
    assert TIME.fullmatch(text)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(seconds=30)


def test_plugin_offers_its_four_types() -> None:
    """Only compute needs a thread; everything else is left to the service's settings."""
    executors = {name: one.executor for name, one in HOST.handlers.items()}
    assert executors == {"compute": "thread", "echo": "async", "fail": "async", "sleep": "async"}


@pytest.mark.anyio
@pytest.mark.parametrize("payload", [{}, {"n": 2**70, "deep": {"list": [None, 1.5, "x"]}}])
async def test_echo_gives_the_payload_back(payload: dict[str, Any]) -> None:
    """The payload comes back whole, with the time."""
    result = await run("echo", payload)
    assert set(result) == {"echoed", "processed_at"}
    assert result["echoed"] == payload
    assert_is_now(result["processed_at"])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("payload", "slept_for"),
    [
        ({"duration": 0}, "0s"),
        ({"duration": 20}, "0.02s"),
        ({"duration": 1.5}, "0.002s"),
        ({"duration_seconds": 0.01}, "0.01s"),
        ({"duration": None, "duration_seconds": 0.01}, "0.01s"),
    ],
)
async def test_sleep_takes_as_long_as_asked(payload: dict[str, Any], slept_for: str) -> None:
    """The result names the duration in seconds with its unit, and the time of the end."""
    started = asyncio.get_running_loop().time()
    result = await run("sleep", payload)
    assert asyncio.get_running_loop().time() - started >= float(slept_for[:-1]) - 0.002
    assert set(result) == {"slept_for", "completed_at"}
    assert result["slept_for"] == slept_for
    assert_is_now(result["completed_at"])


def test_sleep_lasts_a_second_by_default() -> None:
    """Without a duration the seed's default holds."""
    assert HOST.handlers["sleep"].decode({}).seconds() == 1.0


@pytest.mark.anyio
async def test_sleep_stops_at_once_when_cancelled() -> None:
    """A sleeping task holds nothing that cancellation or a timeout would have to wait for."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run("sleep", {"duration_seconds": 3600})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("payload", "n"),
    [({"iterations": 0}, 0), ({"iterations": 1}, 1), ({"iterations": 123_457}, 123_457)],
)
async def test_compute_adds_the_numbers(payload: dict[str, Any], n: int) -> None:
    """The result is the sum of 0..n-1, over the ends of chunks too."""
    assert await run("compute", payload) == {"iterations": n, "result": n * (n - 1) // 2}


@pytest.mark.anyio
async def test_compute_adds_a_million_by_default() -> None:
    """Without a number the seed's default holds."""
    assert await run("compute", {}) == {"iterations": 1_000_000, "result": 499_999_500_000}


def test_compute_stops_when_cancelled() -> None:
    """A running computation sees the cancellation between two chunks."""
    ctx = context("compute")
    compute = HOST.handlers["compute"]
    threading.Timer(0.02, request_cancel, (ctx, "cancelled")).start()
    with pytest.raises(TaskCancelled, match="cancelled"):
        compute(ctx, compute.decode({"iterations": 1_000_000_000}))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("payload", "message"),
    [({}, "intentional failure for testing"), ({"message": "on purpose"}, "on purpose")],
)
async def test_fail_fails_with_its_message(payload: dict[str, Any], message: str) -> None:
    """It is an ordinary failure, so that it is retried as any other."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the class itself is the rule)
        await run("fail", payload)
    assert type(caught.value) is Exception
    assert str(caught.value) == message


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("task_type", "payload", "message"),
    [
        ("sleep", {"duration": -1}, r">= 0.* - at `\$\.duration`"),
        ("sleep", {"duration_seconds": 1e9}, r"<= 86400.* - at `\$\.duration_seconds`"),
        ("sleep", {"duration": "1s"}, r"got `str` - at `\$\.duration`"),
        ("sleep", {"duration": 1, "duration_seconds": 1}, "not both"),
        ("compute", {"iterations": -1}, r">= 0 - at `\$\.iterations`"),
        ("compute", {"iterations": 10**30}, r"<= 1000000000 - at `\$\.iterations`"),
        ("compute", {"iterations": 1.5}, r"got `float` - at `\$\.iterations`"),
        ("fail", {"message": 1}, r"got `int` - at `\$\.message`"),
        ("echo", [], "got `list`"),
    ],
)
async def test_absurd_payload_is_refused(task_type: str, payload: Any, message: str) -> None:
    """What can never work is refused for good, with the field and its bound."""
    with pytest.raises(InvalidPayload, match=message):
        await run(task_type, payload)
