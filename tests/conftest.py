"""One private broker per test process; a fresh namespace per test, audited after it."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
import structlog
from topology import EMBEDDED, PLACES, chosen_kinds

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings

_numbers = itertools.count()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop the service runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def url_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Yield what returns the URL of a kind of server, which starts when it is first asked for.

    It belongs to this test process alone and ends with it.
    """
    with ExitStack() as ends:

        @cache
        def url_of(kind: str) -> str:
            directory = tmp_path_factory.mktemp(kind)
            if kind == EMBEDDED:
                return ends.enter_context(EmbeddedBroker(directory)).url
            place = PLACES[kind](directory)
            ends.callback(place.close)
            return place.url

        yield url_of


@pytest.fixture(scope="session")
def redis_url(url_of: Callable[[str], str]) -> str:
    """Return the URL of a real broker: the first of ``BROKER_SERVER``, else the embedded one."""
    return url_of(chosen_kinds()[0])


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


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Let a test configure logging; afterwards it is as it was."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # so that the ones of the test runner are not closed
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
