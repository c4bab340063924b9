"""Loops: they survive every error, wait longer each time, and say little about it."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from structlog.testing import capture_logs

from taskqueue_core.errors import BrokerFullError, BrokerUnavailableError, SchemaError
from taskqueue_core.logs import Throttle
from taskqueue_core.retry import RetryPolicy
from taskqueue_core.worker import loop as module
from taskqueue_core.worker.loop import BACKOFF, Backoff, jittered, run_loop, until_done

pytestmark = pytest.mark.anyio


@pytest.fixture
def backoff(monkeypatch: pytest.MonkeyPatch) -> Backoff:
    """Return a backoff of no time at all."""
    monkeypatch.setattr(module, "BACKOFF", RetryPolicy(initial_seconds=0, max_seconds=0))
    return Backoff("test", Throttle(3, time.monotonic), random.Random(1))


def test_waits_grow_and_stay_below_three_seconds() -> None:
    """So a worker is back within five seconds of its broker, and does not spin before."""
    rng = random.Random(1)
    waits = [BACKOFF.delay_seconds(failures, rng) for failures in range(1, 50)]
    assert 0.03 < waits[0] < 0.07
    assert min(waits[10:]) >= 1.4
    assert max(waits) <= 2.6


async def test_a_loop_survives_everything(backoff: Backoff) -> None:
    """Broker trouble is a line a few times a minute; a bug is logged whole; both are repeated."""
    stopping, turns = asyncio.Event(), iter(range(100))

    async def run_once() -> float:
        turn = next(turns)
        if turn == 99:
            stopping.set()
            return 0.0
        raise BrokerUnavailableError("away") if turn % 2 else ZeroDivisionError

    with capture_logs() as lines:
        await run_loop(run_once, backoff, stopping)
    assert backoff.failures == 0
    levels = [line["log_level"] for line in lines]
    assert (levels.count("warning"), levels.count("error")) == (3, 3)


async def test_a_pause_ends_with_the_worker(backoff: Backoff) -> None:
    """A loop that sleeps for long ends at once when told to."""
    stopping = asyncio.Event()

    async def run_once() -> float:
        return 3600.0

    running = asyncio.create_task(run_loop(run_once, backoff, stopping))
    await asyncio.sleep(0)
    stopping.set()
    await asyncio.wait_for(running, 1)


async def test_a_first_step_is_repeated_while_the_broker_is_away_or_full(
    backoff: Backoff,
) -> None:
    """Other errors, as of a namespace of another version, are for the one who started it."""
    errors = [BrokerUnavailableError("away"), BrokerFullError("full"), None, SchemaError("other")]
    taken = iter(errors)

    async def step() -> bool:
        error = next(taken)
        if error:
            raise error
        return False

    with pytest.raises(SchemaError):
        await until_done(step, backoff, asyncio.Event())


async def test_a_first_step_is_given_up_when_the_worker_stops(backoff: Backoff) -> None:
    """A worker that never reached its broker can be stopped."""
    stopping = asyncio.Event()

    async def step() -> bool:
        stopping.set()
        raise BrokerUnavailableError("away")

    await until_done(step, backoff, stopping)


def test_jitter() -> None:
    """At most a tenth either way."""
    rng = random.Random(1)
    values = [jittered(10, rng) for _ in range(100)]
    assert 9 <= min(values) < 9.5
    assert 10.5 < max(values) <= 11
