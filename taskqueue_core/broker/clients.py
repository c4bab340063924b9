"""Redis clients for the URL that the settings name, calls that are repeated, and errors as ours.

One factory for every topology: ``Client`` is redis-py's client of one server, which Sentinel may
name, or of a cluster. Nothing is connected before the first command.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
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

#: The same, and "full", by the code of the answer: redis-py has no class for each of them.
_NOT_READY_CODES: Final = frozenset({"BUSY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED"})
_FULL_CODES: Final = frozenset({"OOM", "MISCONF"})
#: The code of an error answer; a pipeline puts words of its own before it.
_CODE: Final = re.compile(r"(?:^|of pipeline caused error: \W*)([A-Z]+) ")

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


def checked_url(settings: Settings) -> RedisUrl:
    """Return the parts of the URL the settings name.

    Raises:
        SettingsError: the URL is malformed, or names files that TLS cannot use.
    """
    try:
        url = parse_redis_url(configured_url(settings))
    except ValueError as error:
        raise SettingsError(f"redis.url {error}") from None
    _check_certificates(url)
    return url


def open_redis(settings: Settings, *, blocks_seconds: float = 0.0) -> Client:
    """Return a client for ``redis.url``; nothing is connected before the first command.

    With ``blocks_seconds`` the client is for commands that block so long: its answers may take
    longer, and a lost connection is the caller's to notice, since repeating a pop would lose an
    element. The keys of a command must be of one partition.

    Raises:
        SettingsError: the URL is malformed, or names files that TLS cannot use.
    """
    client = _open(settings, blocks_seconds)
    use_sturdy_connections(client)
    return client


def _open(settings: Settings, blocks_seconds: float) -> Client:
    redis, url = settings.redis, checked_url(settings)
    # Beside the pool, a worker's two blocking calls in each partition have one each at all times.
    blocking = 2 * settings.queue.partitions if blocks_seconds else 0
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": redis.read_timeout_seconds + blocks_seconds,
        "socket_connect_timeout": redis.dial_timeout_seconds,
        "max_connections": redis.pool_size + blocking,
        "retry": Retry(_BACKOFF, 0 if blocks_seconds else redis.max_retries),
    }
    if url.kind == "cluster":
        # Who waits for this client asks again and again, so it may have more connections.
        most = 10 * redis.pool_size + 2 * settings.queue.partitions
        return _open_cluster(url, options | {"max_connections": most})
    # A burst of callers waits for a connection, as long as for an answer.
    options["timeout"] = options["socket_timeout"]
    if url.kind == "sentinel":
        return _open_sentinel(url, options, redis.read_timeout_seconds)
    return Redis.from_pool(BlockingConnectionPool.from_url(url.plain, **options))


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


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary that Sentinel names; callers wait when all are in use."""


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
    client: Redis = sentinels.master_for(
        url.service, connection_pool_class=_SentinelPool, **common, **options
    )
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


def _check_certificates(url: RedisUrl) -> None:
    """Refuse files that TLS could not use: tried at each connection, they look like an outage."""
    options = _options_of(url)
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    ca, certificate, key = files = [options.get(name) for name in names]
    if not any(files):
        return
    try:
        for path in filter(None, files):
            # The errors below do not name it.
            Path(path).read_bytes()
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        named = ", ".join(name for name, path in zip(names, files, strict=True) if path)
        raise SettingsError(f"redis.url has files that TLS cannot use ({named}): {error}") from None


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
    Connections to a server that has become a replica are closed, also after the last attempt.

    Raises:
        BrokerUnavailableError: no answer, or "not ready" at every attempt.
        BrokerFullError: Redis is out of memory or disk.
        BrokerError: any other error answer.
    """
    for failures in range(1, retries + 2):
        try:
            return await _in_turn(redis, call)
        except CLIENT_ERRORS as error:
            if isinstance(error, redis_errors.ReadOnlyError) and isinstance(redis, Redis):
                # A former primary: the name may lead to the present one by now.
                await redis.connection_pool.disconnect(inuse_connections=False)
            passes = _is_not_ready(error) or (
                isinstance(error, _LOST) and isinstance(redis, RedisCluster)
            )
            if failures > retries or not passes:
                raise translate(error) from error
        await asyncio.sleep(_BACKOFF.compute(failures))
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _in_turn(redis: Client, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call once there is a connection for it, which the pools see to but not a cluster."""
    if not isinstance(redis, RedisCluster):
        return await call()
    end = time.monotonic() + redis.connection_kwargs["socket_timeout"]
    failures = 0
    while True:
        try:
            return await call()
        except redis_errors.MaxConnectionsError:
            # Nothing was sent.
            if time.monotonic() > end:
                raise
        failures += 1
        await asyncio.sleep(_BACKOFF.compute(failures))


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
    text = str(error) or type(error).__name__
    if _code_of(error) in _FULL_CODES:
        return BrokerFullError(f"Redis refuses writes: {text}")
    if isinstance(error, _LOST):
        return BrokerUnavailableError(f"Redis cannot be reached: {text}")
    if _is_not_ready(error):
        return BrokerUnavailableError(f"Redis is not ready: {text}")
    return BrokerError(f"Redis answered: {text}")


def _is_not_ready(error: Exception) -> bool:
    """Tell whether Redis refused for now: the same call may be answered later."""
    return isinstance(error, _NOT_READY) or _code_of(error) in _NOT_READY_CODES


def _code_of(error: Exception) -> str:
    """Return the code of an error answer, such as BUSY; empty without one."""
    if isinstance(error, redis_errors.OutOfMemoryError):
        # Of its text redis-py has taken the code off.
        return "OOM"
    found = _CODE.search(str(error))
    return found[1] if found and isinstance(error, redis_errors.ResponseError) else ""
