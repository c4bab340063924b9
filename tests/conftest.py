"""One private broker per test process; a fresh namespace per test, audited after it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from topology import PLACES

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings

_numbers = itertools.count()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop the service runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a real broker that belongs to this test process alone.

    ``BROKER_SERVER`` chooses another one than the embedded, see ``topology.PLACES``.
    """
    directory: Path = tmp_path_factory.mktemp("broker")
    kind = os.environ.get("BROKER_SERVER", "embedded")
    if kind == "embedded":
        with EmbeddedBroker(directory) as embedded:
            yield embedded.url
        return
    place = PLACES[kind](directory)
    yield place.url
    place.close()


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return the default settings, on the test's own namespace."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(namespace=namespace),
    )


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[Broker]:
    """Yield a connected broker; afterwards everything must be in its place."""
    broker = open_broker(settings)
    await broker.prepare()
    yield broker
    problems = await broker.inspection.audit()
    await broker.close()
    assert problems == []
