"""Workers on the test's own namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from crew import joined
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, WorkerSession, open_broker
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with four slots and quick retries."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(
            namespace=namespace,
            retry_initial_backoff_seconds=0.05,
            retry_jitter_factor=0,
        ),
        worker=WorkerSettings(
            concurrency=4,
            shutdown_timeout_seconds=5,
        ),
    )


@pytest.fixture
async def rough_broker(settings: Settings) -> AsyncIterator[Broker]:
    """Yield a broker that nobody audits, for tests that do damage."""
    broker = open_broker(settings)
    await broker.prepare()
    yield broker
    await broker.close()


@pytest.fixture
async def session(broker: Broker) -> WorkerSession:
    """Return the session of a registered worker ``w1``."""
    return await joined(broker)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep log lines from being rendered: a traceback with all its locals takes a second."""
    with capture_logs():
        yield
