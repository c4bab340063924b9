"""A task that talks to Redis can be ended at any moment."""

from __future__ import annotations

import asyncio

import pytest

from taskqueue_core.broker import Broker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancellation_is_never_forgotten(broker: Broker, turns: int) -> None:
    """Wherever in a call it comes, the task ends, and its connection serves the next one."""

    async def ask_without_end() -> None:
        while True:
            await broker.ping()

    await broker.ping()
    asking = asyncio.create_task(ask_without_end())
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    done, _ = await asyncio.wait([asking], timeout=5)
    asking.cancel()
    assert done == {asking}
    await broker.ping()
