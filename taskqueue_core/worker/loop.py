"""A loop that does one thing again and again, and survives the broker's absence.

Every loop of the worker is an object with ``run_once``, which tests drive by themselves.
``run_loop`` repeats it: errors of the broker lead to a growing, jittered wait and a few log lines
a minute; any other exception is a bug of ours, is logged whole, and does not end the loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from taskqueue_core.errors import BrokerError, BrokerFullError, BrokerUnavailableError
from taskqueue_core.logs import Throttle
from taskqueue_core.retry import RetryPolicy

#: Waits between attempts to reach the broker: back at work within 5 s of its return.
BACKOFF: Final = RetryPolicy(initial_seconds=0.05, max_seconds=2.0, factor=2.0, jitter=0.3)


class Backoff:
    """Growing waits after failures in a row, and throttled log lines about them."""

    def __init__(self, name: str, throttle: Throttle, rng: random.Random) -> None:
        self._log = structlog.get_logger("taskqueue.worker").bind(loop=name)
        self._throttle = throttle
        self._rng = rng
        self.failures = 0

    def succeeded(self) -> None:
        """Start over with short waits."""
        self.failures = 0

    async def failed(self, error: Exception) -> None:
        """Note a failure, then wait; the longest wait is about 2.6 s."""
        self.failures += 1
        if isinstance(error, BrokerError):
            if self._throttle.allow("broker"):
                self._log.warning("broker trouble, trying again", error=str(error))
        elif self._throttle.allow(type(error).__name__):
            self._log.error("unexpected error, going on", exc_info=error)
        await asyncio.sleep(BACKOFF.delay_seconds(self.failures, self._rng))


async def run_loop(
    run_once: Callable[[], Awaitable[float]], backoff: Backoff, is_stopping: asyncio.Event
) -> None:
    """Repeat ``run_once``, which answers the seconds to wait before the next turn."""
    while not is_stopping.is_set():
        try:
            pause = await run_once()
        except Exception as error:  # noqa: BLE001 (a loop boundary: logged, never swallowed)
            await backoff.failed(error)
            continue
        backoff.succeeded()
        if pause > 0:
            try:
                async with asyncio.timeout(pause):
                    await is_stopping.wait()
            except TimeoutError:
                continue


async def until_done(
    step: Callable[[], Awaitable[bool]], backoff: Backoff, is_stopping: asyncio.Event
) -> None:
    """Repeat ``step`` until it answers True, also while the broker is away or full."""
    while not is_stopping.is_set():
        try:
            if await step():
                return
        except (BrokerUnavailableError, BrokerFullError) as error:
            await backoff.failed(error)


def jittered(seconds: float, rng: random.Random) -> float:
    """Return ``seconds`` moved by up to a tenth, so that a fleet does not act in step."""
    return seconds * (0.9 + 0.2 * rng.random())
