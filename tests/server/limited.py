"""Servers whose limits are reached at once, by a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from checked import serve

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.settings import Settings
from taskqueue_server.app import create_app


def with_queue(settings: Settings, **changes: Any) -> Settings:
    """Return settings with other limits."""
    return settings.model_copy(update={"queue": settings.queue.model_copy(update=changes)})


@asynccontextmanager
async def limited(
    settings: Settings, per_second: int, *, now_ms: int | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server that allows so many requests, and no more as time stands still."""
    chosen = with_queue(settings, rate_limit_rps=per_second)
    clock = f"local now = {now_ms or time.time_ns() // 1_000_000}"
    broker = Broker(open_redis(chosen), chosen, clock=clock)
    async with serve(create_app(chosen, broker=broker)) as client:
        yield client


async def exhaust(broker: Broker) -> None:
    """Make every server refuse clients without a credential for the next minutes."""
    weight = 500 * broker.settings.queue.rate_limit_rps
    await broker.admission.take("peer:127.0.0.1", weight, paid=weight)
