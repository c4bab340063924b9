"""Brokers on the bench: the clock stands still, the namespace is audited and then emptied."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from bench import CLOCK, Bench

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.settings import Settings


@pytest.fixture
async def rough_bench(settings: Settings) -> AsyncIterator[Bench]:
    """Yield a bench that nobody audits, for tests that do damage."""
    broker = Broker(open_redis(settings), settings, clock=CLOCK)
    await broker.prepare()
    # An hour ahead of the real time that Redis puts into entry ids, so that these are in the past.
    bench = Bench(broker, time.time_ns() // 1_000_000 + 3_600_000)
    await bench.advance(0)
    yield bench
    await bench.clean()
    await broker.close()


@pytest.fixture
async def bench(rough_bench: Bench) -> AsyncIterator[Bench]:
    """Yield a bench; afterwards every task must be in the place that its state names."""
    yield rough_bench
    assert await rough_bench.broker.inspection.audit() == []
