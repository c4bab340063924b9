"""From settings to a connected broker.

Which Redis: ``redis.url``, else ``redis.addr``, else the embedded broker of ``datadir``, which is
adopted when it lives and started otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from taskqueue_core.broker.broker import Broker
from taskqueue_core.broker.clients import checked_url, configured_url, open_redis
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.settings import Settings


def with_url(settings: Settings, url: str) -> Settings:
    """Return the settings with ``redis.url`` set to what was found."""
    redis = settings.redis.model_copy(update={"url": url})
    return settings.model_copy(update={"redis": redis})


@contextmanager
def located(settings: Settings) -> Iterator[tuple[Settings, EmbeddedBroker | None]]:
    """Find the Redis to use; start or adopt the embedded broker when none is configured.

    Yields the settings with the URL in them, and the embedded broker if it is the one. The broker
    stops at exit if this process started it.

    Raises:
        BrokerUnavailableError: the embedded broker did not start.
        SettingsError: it cannot start here, or its place is not usable; or ``redis.url`` names
            files that TLS cannot use.
    """
    url = configured_url(settings)
    if url:
        checked_url(settings)
        yield with_url(settings, url), None
        return
    with EmbeddedBroker(settings.data_dir) as embedded:
        yield with_url(settings, embedded.url), embedded


def open_broker(settings: Settings) -> Broker:
    """Return a broker for ``redis.url``; ``prepare`` it before use and ``close`` it after."""
    return Broker(open_redis(settings), settings)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Broker]:
    """Yield a prepared broker for the settings.

    Raises:
        BrokerUnavailableError: no broker can be reached.
        SchemaError: the namespace was made with other settings, or Redis would evict tasks.
    """
    with located(settings) as (found, _):
        broker = open_broker(found)
        try:
            await broker.prepare()
            yield broker
        finally:
            await broker.close()
