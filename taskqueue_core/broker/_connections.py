"""Connections that call a loss a loss on every event loop, and that can be cancelled.

Between a connection's end and the next look at it, a command may be written to it. asyncio then
raises ``ConnectionResetError``, which redis-py turns into its own error and repeats the command
over a new connection. uvloop raises a bare ``RuntimeError``, which nobody expects: a request would
be answered with 500 for each connection in the pool.

redis-py writes within ``asyncio.wait_for``, which before Python 3.12 forgets a cancellation that
comes at the moment the write is done: the task would go on, and whoever waits for its end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as LostError


@cache
def _sturdy(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    class Sturdy(connection_class):  # type: ignore[valid-type,misc]
        async def send_packed_command(
            self,
            command: bytes | str | Iterable[bytes],
            check_health: bool = True,  # noqa: FBT001, FBT002 (redis-py calls it so)
        ) -> None:
            task = asyncio.current_task()
            cancellations = task.cancelling() if task else 0
            try:
                await super().send_packed_command(command, check_health)
            except RuntimeError as error:
                # redis-py has given the connection up already, as it does after any error here.
                raise LostError(f"the connection is closed: {error}") from error
            if task and task.cancelling() > cancellations:
                # Nobody will read the answer.
                await self.disconnect(nowait=True)
                raise asyncio.CancelledError

    return Sturdy


def use_sturdy_connections(client: Redis | RedisCluster) -> None:
    """Have a client that is not connected yet make connections of that kind."""
    if isinstance(client, RedisCluster):
        # Nodes that are found later are made from these options, the first ones were already.
        options = client.connection_kwargs
        options["connection_class"] = _sturdy(options["connection_class"])
        node: Any
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = options["connection_class"]
        return
    pool: Any = client.connection_pool
    pool.connection_class = _sturdy(pool.connection_class)
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            use_sturdy_connections(sentinel)
