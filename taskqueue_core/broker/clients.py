"""Redis clients for the URL that the settings name, calls that are repeated, and errors as ours.

One factory for every topology: ``Client`` is redis-py's client of one server, which Sentinel may
name, or of a cluster. Nothing is connected before the first command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote

from redis import exceptions as redis_errors
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import BlockingConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from taskqueue_core.broker._connections import use_sturdy_connections
from taskqueue_core.errors import (
    BrokerError,
    BrokerFullError,
    BrokerUnavailableError,
    SettingsError,
)
from taskqueue_core.settings import RedisUrl, Settings, parse_redis_url

Client = Redis | RedisCluster

T = TypeVar("T")

#: All that redis-py raises: errors of its cluster client are no RedisError.
CLIENT_ERRORS: Final = (redis_errors.RedisError, redis_errors.RedisClusterException, OSError)

#: Nobody answered; what was asked may have happened all the same.
_LOST: Final = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)

#: Redis refused before it did anything: it loads, changes roles, or moves a slot.
_NOT_READY: Final = (
    redis_errors.ReadOnlyError,
    redis_errors.ClusterError,
    redis_errors.TryAgainError,
    redis_errors.AskError,
    redis_errors.RedisClusterException,
)

#: Most calls under way at once for one caller: connections are few.
_AT_ONCE: Final = 16

_BACKOFF: Final = ExponentialWithJitterBackoff(base=0.02, cap=0.5)


def configured_url(settings: Settings) -> str:
    """Return the URL the settings name, empty when they leave it to the embedded broker."""
    redis = settings.redis
    if redis.url or not redis.addr:
        return redis.url
    password = f":{quote(redis.password, safe='')}@" if redis.password else ""
    return f"redis://{password}{redis.addr}/{redis.db}"


def open_redis(settings: Settings, *, blocks_seconds: float = 0.0) -> Client:
    """Return a client for ``redis.url``; nothing is connected before the first command.

    With ``blocks_seconds`` the client is for commands that block so long: its answers may take
    longer, and a lost connection is the caller's to notice, since repeating a pop would lose an
    element. The keys of a command must be of one partition.

    Raises:
        SettingsError: the URL is malformed.
    """
    client = _open(settings, blocks_seconds)
    use_sturdy_connections(client)
    return client


def _open(settings: Settings, blocks_seconds: float) -> Client:
    redis = settings.redis
    try:
        url = parse_redis_url(configured_url(settings))
    except ValueError as error:
        raise SettingsError(f"redis.url {error}") from None
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": redis.read_timeout_seconds + blocks_seconds,
        "socket_connect_timeout": redis.dial_timeout_seconds,
        "max_connections": redis.pool_size,
        "retry": Retry(_BACKOFF, 0 if blocks_seconds else redis.max_retries),
    }
    # These pools refuse where the one below waits, so they may grow further.
    grown = options | {"max_connections": 10 * redis.pool_size + 2 * settings.queue.partitions}
    match url.kind:
        case "sentinel":
            return _open_sentinel(url, grown, redis.read_timeout_seconds)
        case "cluster":
            return _open_cluster(url, grown)
    # A burst of callers waits for a connection, as long as for an answer.
    pool = BlockingConnectionPool.from_url(url.plain, timeout=options["socket_timeout"], **options)
    return Redis.from_pool(pool)


class _Sentinels(Sentinel):
    """Sentinels of which one connection asks at a time.

    redis-py moves the one that answered to the front of its list. Two at a time would put one
    there twice and lose another, until the list holds the same one only.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], options: Mapping[str, Any]) -> None:
        super().__init__(nodes, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> Any:
        async with self._asking:
            return await super().discover_master(service_name)


def _open_sentinel(url: RedisUrl, options: dict[str, Any], timeout_seconds: float) -> Redis:
    common = _options_of(url)
    tls = {name: value for name, value in common.items() if name.startswith("ssl")}
    # The next sentinel is asked at once when one does not answer.
    asking = {
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": options["socket_connect_timeout"],
        "retry": Retry(NoBackoff(), 0),
    }
    sentinels = _Sentinels(url.nodes, asking | tls | dict(url.sentinel_options))
    client: Redis = sentinels.master_for(url.service, **common, **options)
    return client


def _open_cluster(url: RedisUrl, options: dict[str, Any]) -> RedisCluster:
    common = _options_of(url)
    common.pop("db", None)
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in url.nodes],
        # Partitions on other nodes go on while one node's slots are with nobody.
        require_full_coverage=False,
        # Each fifth MOVED would close the connections of all calls under way, as if all had moved.
        reinitialize_steps=0,
        # `attempted` repeats, with a wait between; the client itself would not wait.
        **common | options | {"retry": Retry(NoBackoff(), 0)},
    )


def _options_of(url: RedisUrl) -> dict[str, Any]:
    common: dict[str, Any] = dict(parse_url(url.plain))
    for name in ("host", "port"):
        common.pop(name, None)
    if common.pop("connection_class", None) is SSLConnection:
        common["ssl"] = True
    return common


async def close_redis(redis: Client) -> None:
    """Close a client's connections, also those that redis-py forgets."""
    await redis.aclose()
    if isinstance(redis, RedisCluster):
        # aclose() closes nothing while the client is about to look for its nodes again.
        for nodes in ("nodes_cache", "startup_nodes"):
            await redis.nodes_manager.aclose(nodes)
    elif isinstance(redis.connection_pool, SentinelConnectionPool):
        for sentinel in redis.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


async def attempted(redis: Client, retries: int, call: Callable[[], Awaitable[T]]) -> T:
    """Return the answer of a call that is safe to repeat; repeat it while Redis is not ready.

    A lost connection is made again by redis-py where there is one server, and here in a cluster.

    Raises:
        BrokerUnavailableError: no answer, or "not ready" at every attempt.
        BrokerFullError: Redis is out of memory or disk.
        BrokerError: any other error answer.
    """
    for failures in range(1, retries + 2):
        try:
            return await call()
        except CLIENT_ERRORS as error:
            passes = isinstance(error, _NOT_READY) or (
                isinstance(error, _LOST) and isinstance(redis, RedisCluster)
            )
            if failures > retries or not passes:
                raise translate(error) from error
            if isinstance(error, redis_errors.ReadOnlyError) and isinstance(redis, Redis):
                # A former primary: the name may lead to the present one by now.
                await redis.connection_pool.disconnect(inuse_connections=False)
        await asyncio.sleep(_BACKOFF.compute(failures))
    raise AssertionError("unreachable: the last attempt returns or raises")


async def together(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make independent calls at the same time, a bounded number at once; answers in their order.

    All of them are made, then the first error is raised.
    """
    answers: list[T | BaseException] = []
    for start in range(0, len(calls), _AT_ONCE):
        chunk = [call() for call in calls[start : start + _AT_ONCE]]
        answers += await asyncio.gather(*chunk, return_exceptions=True)
    results: list[T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        results.append(answer)
    return results


async def batch(redis: Client, commands: Sequence[Sequence[str | int]]) -> list[Any]:
    """Run independent commands: in one round trip, or in a cluster each where its key lives."""
    client: Any = redis  # its execute_command is untyped
    if isinstance(redis, RedisCluster):
        return await together([partial(client.execute_command, *command) for command in commands])
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return list(await pipe.execute())


async def server_time_ms(redis: Client) -> int:
    """Return the time of Redis, in a cluster of any of its nodes."""
    client: Any = redis
    target = {"target_nodes": RedisCluster.RANDOM} if isinstance(redis, RedisCluster) else {}
    seconds, micros = await client.time(**target)
    return int(seconds) * 1000 + int(micros) // 1000


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of redis-py into ours, see ``translate``."""
    try:
        yield
    except (redis_errors.RedisError, redis_errors.RedisClusterException) as error:
        raise translate(error) from error


def translate(error: Exception) -> BrokerError:
    """Return redis-py's error as one of ours: who asked can only wait, drain, or report."""
    text = str(error)
    if isinstance(error, redis_errors.OutOfMemoryError) or text.startswith(("OOM", "MISCONF")):
        return BrokerFullError(f"Redis refuses writes: {text}")
    if isinstance(error, _LOST):
        return BrokerUnavailableError(f"Redis cannot be reached: {text}")
    if isinstance(error, _NOT_READY) or text.startswith(("NOREPLICAS", "MASTERDOWN")):
        return BrokerUnavailableError(f"Redis is not ready: {text}")
    return BrokerError(f"Redis answered: {text}")
