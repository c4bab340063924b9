"""A connection that was reset while nobody used it costs nobody a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as LostError

from taskqueue_core.broker import open_broker, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.settings import Settings
from taskqueue_core.verification.proxy import Proxy, dialer, through

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    uvloop.new_event_loop,
    asyncio.new_event_loop,
]


@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
def test_next_call_works(
    victim: EmbeddedBroker, fragile: Settings, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """On either event loop, with every connection of the pool reset."""

    async def use() -> None:
        dial = dialer(victim.url)
        assert dial is not None
        proxy = Proxy(dial)
        await proxy.start()
        broker = open_broker(with_url(fragile, through(victim.url, proxy.port)))
        for _ in range(5):
            await asyncio.gather(*(broker.inspection.stats() for _ in range(8)))
            proxy.reset()
            await asyncio.sleep(0.02)
            await asyncio.gather(*(broker.inspection.stats() for _ in range(8)))
        await broker.close()
        await proxy.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(use())


async def ping_twice(connection: Any) -> None:
    """Write to a connection; asyncio takes the first write after its end without a word."""
    for _ in range(2):
        await connection.send_command("PING")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
def test_loss_is_a_loss(
    victim: EmbeddedBroker, fragile: Settings, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Writing to a connection that has ended is redis-py's own error, which it repeats after."""

    async def use() -> None:
        broker = open_broker(fragile)
        redis: Any = broker.redis
        connection = await redis.connection_pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(LostError):
            await ping_twice(connection)
        await redis.connection_pool.release(connection)
        await broker.close()

    began = time.monotonic()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(use())
    assert time.monotonic() - began < 5
