"""Before the first use: is this Redis fit for tasks, and does the namespace fit these settings?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from redis import exceptions as redis_errors
from redis.asyncio import RedisCluster

from taskqueue_core.broker.clients import Client, batch
from taskqueue_core.broker.scripts import can_wait_for_disk
from taskqueue_core.errors import SchemaError
from taskqueue_core.keys import Keys
from taskqueue_core.models import ServerState
from taskqueue_core.settings import Settings

#: Version of the data model that ``lua/README.md`` describes.
SCHEMA: Final = 1

_OLDEST: Final = (7, 0)


async def check_servers(redis: Client, settings: Settings) -> bool:
    """Check every primary; True when each of its answers already is on its disk.

    Says once what a crash may cost there, at a level that the settings allow.

    Raises:
        SchemaError: Redis is too old, evicts keys, is no cluster or is one, or cannot keep tasks
            as safe as ``queue.durability`` wants. The message holds the fix.
    """
    warnings: set[str] = set()
    always = []
    for info, ask in await _primaries(redis):
        if int(info.get("loading", 0)):
            # It answers INFO all the same, but says that it had no append-only file.
            raise redis_errors.BusyLoadingError("Redis is loading its data")
        _refuse_unfit(info, is_cluster=isinstance(redis, RedisCluster))
        wants = settings.queue.durability
        has_log = bool(int(info.get("aof_enabled", 0)))
        always.append(wants == "disk" and await _syncs_always(ask))
        if wants == "disk" and not has_log:
            raise SchemaError(
                "queue.durability is disk, but Redis has no append-only file: set appendonly yes"
            )
        if wants == "disk" and not always[-1] and not can_wait_for_disk(_version(info)):
            raise SchemaError(
                "queue.durability is disk, which this Redis (before 7.2) offers only with "
                "appendfsync always: set that, or use a newer one"
            )
        if not has_log:
            warnings.add("Redis has no append-only file: a restart of it loses tasks")
        if wants == "replica" and int(info.get("connected_slaves", 0)) < settings.queue.replicas:
            warnings.add("too few replicas for queue.replicas: submissions are refused until then")
    for warning in sorted(warnings):
        structlog.get_logger("taskqueue.broker").warning(warning)
    return all(always)


async def read_servers(redis: Client) -> list[ServerState]:
    """Return what every primary says of its memory and its append-only file."""
    return [
        ServerState(
            has_log=bool(int(info.get("aof_enabled", 0))),
            can_write_log=info.get("aof_last_write_status", "ok") == "ok",
            used_bytes=int(info.get("used_memory", 0)),
            max_bytes=int(info.get("maxmemory", 0)),
        )
        for info, _ in await _primaries(redis)
    ]


async def claim(redis: Client, partitions: Sequence[Keys]) -> None:
    """Mark the namespace as made with this schema and number of partitions, if it is new.

    What is marked already is only read: a full Redis refuses writes, and who joins to drain it
    must not be held up by that.

    Raises:
        SchemaError: it was made with another one; nothing was changed.
    """
    marks = (("schema", SCHEMA), ("partitions", len(partitions)))
    # The first alone: nothing is left behind in partitions that the namespace does not have.
    for some in (partitions[:1], partitions[1:]):
        reads = [("HMGET", keys.meta, *(field for field, _ in marks)) for keys in some]
        rows = await batch(redis, reads)
        new = [keys for keys, row in zip(some, rows, strict=True) if None in row]
        if new:
            for field, value in marks:
                await batch(redis, [("HSETNX", keys.meta, field, value) for keys in new])
            rows = await batch(redis, reads)
        for keys, (schema, made_with) in zip(some, rows, strict=True):
            _compare(keys.namespace, int(schema), int(made_with), len(partitions))


def _compare(namespace: str, schema: int, made_with: int, count: int) -> None:
    if schema != SCHEMA:
        raise SchemaError(
            f"namespace {namespace} has schema {schema}, this version needs {SCHEMA}: "
            "use the taskqueue version that made it, or another queue.namespace"
        )
    if made_with != count:
        raise SchemaError(
            f"namespace {namespace} was made with {made_with} partitions, not {count}: "
            f"set queue.partitions to {made_with}, or use another queue.namespace"
        )


class _Primary:
    """One primary server, to be asked about itself."""

    def __init__(self, redis: Client, **target: Any) -> None:
        self._redis: Any = redis
        self._target = target

    async def info(self) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._redis.info(**self._target)
        return answer

    async def setting(self, name: str) -> str:
        found = await self._redis.config_get(name, **self._target)
        return str(found.get(name, ""))


async def _primaries(redis: Client) -> list[tuple[Mapping[str, Any], _Primary]]:
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        primaries = [_Primary(redis, target_nodes=node) for node in redis.get_primaries()]
    else:
        primaries = [_Primary(redis)]
    return [(await primary.info(), primary) for primary in primaries]


def _refuse_unfit(info: Mapping[str, Any], *, is_cluster: bool) -> None:
    if _version(info) < _OLDEST:
        raise SchemaError(f"Redis {info['redis_version']} is too old: 7.0 or newer is needed")
    if info.get("cluster_enabled") and not is_cluster:
        raise SchemaError("this Redis is a node of a cluster: let redis.url begin redis+cluster://")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SchemaError(
            f"Redis has maxmemory-policy {policy} and would evict tasks when it is full: "
            "set it to noeviction"
        )


async def _syncs_always(primary: _Primary) -> bool:
    try:
        return await primary.setting("appendfsync") == "always"
    except redis_errors.ResponseError:
        # Hosted servers keep CONFIG to themselves.
        return False


def _version(info: Mapping[str, Any]) -> tuple[int, int]:
    major, minor = str(info.get("redis_version", "7.0")).split(".")[:2]
    return int(major), int(minor)
