"""A broker of one test's own, to be killed, stopped, damaged and emptied."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from taskqueue_core.broker import Broker, open_broker, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings
from taskqueue_core.verification.proxy import Proxy, dialer, through


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """Yield a broker that nobody else uses."""
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.start_or_adopt()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def fragile(victim: EmbeddedBroker) -> Settings:
    """Return settings for that broker: a lease of a second, two slots, answers within a second."""
    return Settings(
        redis=RedisSettings(url=victim.url, read_timeout_seconds=1.0),
        queue=QueueSettings(namespace="fragile"),
        worker=WorkerSettings(
            concurrency=2,
            heartbeat_interval_seconds=0.3,
            lease_seconds=1.0,
            shutdown_timeout_seconds=2.0,
        ),
    )


@pytest.fixture
async def fragile_broker(fragile: Settings) -> AsyncIterator[Broker]:
    """Yield a client of that broker; afterwards everything must be in its place."""
    broker = open_broker(fragile)
    await broker.prepare()
    yield broker
    problems = await broker.inspection.audit()
    await broker.close()
    assert problems == []


@pytest.fixture
async def proxy(fragile: Settings) -> AsyncIterator[Proxy]:
    """Yield a proxy before the test's broker."""
    dial = dialer(fragile.redis.url)
    assert dial is not None
    proxy = Proxy(dial)
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
def proxied(fragile: Settings, proxy: Proxy) -> Settings:
    """Return settings that lead through the proxy."""
    return with_url(fragile, through(fragile.redis.url, proxy.port))
