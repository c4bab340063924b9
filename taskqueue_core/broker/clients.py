"""Redis clients for the URL that the settings name, plain commands, and errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from taskqueue_core.errors import BrokerError, BrokerFullError, BrokerUnavailableError
from taskqueue_core.settings import Settings


def configured_url(settings: Settings) -> str:
    """Return the URL the settings name, empty when they leave it to the embedded broker."""
    redis = settings.redis
    if redis.url or not redis.addr:
        return redis.url
    password = f":{quote(redis.password, safe='')}@" if redis.password else ""
    return f"redis://{password}{redis.addr}/{redis.db}"


def open_redis(settings: Settings, *, blocks_seconds: float = 0.0) -> Redis:
    """Return a client for ``redis.url``; nothing is connected before the first command.

    With ``blocks_seconds`` the client is for commands that block so long: its answers may take
    longer, and a lost connection is the caller's to notice, since repeating a pop would lose an
    element.
    """
    redis = settings.redis
    attempts = 0 if blocks_seconds else redis.max_retries
    return Redis.from_url(
        configured_url(settings),
        protocol=2,
        socket_timeout=redis.read_timeout_seconds + blocks_seconds,
        socket_connect_timeout=redis.dial_timeout_seconds,
        max_connections=redis.pool_size,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), attempts),
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of redis-py into ours, see ``translate``."""
    try:
        yield
    except redis_errors.RedisError as error:
        raise translate(error) from error


def translate(error: redis_errors.RedisError | OSError) -> BrokerError:
    """Return redis-py's error as one of ours: who asked can only wait, drain, or report."""
    text = str(error)
    if isinstance(error, redis_errors.OutOfMemoryError) or text.startswith(("OOM", "MISCONF")):
        return BrokerFullError(f"Redis refuses writes: {text}")
    if isinstance(error, (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)):
        return BrokerUnavailableError(f"Redis cannot be reached: {text}")
    if text.startswith(("LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN")):
        return BrokerUnavailableError(f"Redis is not ready: {text}")
    return BrokerError(f"Redis answered: {text}")
