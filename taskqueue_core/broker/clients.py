"""Redis clients for the URL that the settings name."""

from __future__ import annotations

from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

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
