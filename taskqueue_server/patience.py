"""How long those who look after the service wait for the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from taskqueue_core.errors import BrokerError
from taskqueue_server.ending import end_tasks

T = TypeVar("T")


async def in_time(call: Coroutine[Any, Any, T], seconds: float) -> T | None:
    """Return the broker's answer; ``None`` when it refuses, or has none after so long."""
    asking = asyncio.create_task(call)
    try:
        done, _ = await asyncio.wait([asking], timeout=seconds)
        return asking.result() if done else None
    except BrokerError:
        return None
    finally:
        if not asking.done():
            await end_tasks(asking)
