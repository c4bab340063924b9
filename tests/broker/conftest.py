"""Brokers on the bench: the clock stands still, the namespace is audited and then emptied."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import pytest
from bench import CLOCK, Bench
from topology import chosen_kinds

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.settings import Settings


@pytest.fixture(params=chosen_kinds())
def redis_url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """Return the URL of each kind of server that ``BROKER_SERVER`` names, in turn."""
    return url_of(request.param)


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
