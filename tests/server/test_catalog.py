"""What the fleet says about its handlers, and how often it is asked."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from taskqueue_core.models import HandlerInfo, WorkerState
from taskqueue_core.settings import QueueSettings, Settings
from taskqueue_server.catalog import MAX_AGE_SECONDS, HandlerCatalog

pytestmark = pytest.mark.anyio


def worker(name: str, started_at_ms: int, **handlers: HandlerInfo) -> WorkerState:
    """Return a live worker with handlers."""
    return WorkerState(
        id=name,
        instance="i",
        state="idle",
        started_at_ms=started_at_ms,
        last_heartbeat_ms=0,
        active_tasks=0,
        concurrency=1,
        version="1",
        handlers=msgspec.json.encode(handlers),
    )


class Fleet:
    """Live workers, a clock, and the number of times somebody asked for them."""

    def __init__(self, *workers: WorkerState) -> None:
        self.workers = list(workers)
        self.now = 1000.0
        self.asked = 0
        queue = QueueSettings(retry_max_attempts=4, default_timeout_seconds=1.5)
        self.catalog = HandlerCatalog(Settings(queue=queue), self.read, lambda: self.now)

    async def read(self) -> list[WorkerState]:
        """Return the workers."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.workers


async def test_settings_hold_for_unknown_types() -> None:
    """A type that nobody handles has the settings' retries and timeout, in whole seconds."""
    catalog = Fleet().catalog
    assert await catalog.queue_of("echo") == "default"
    assert await catalog.max_retries_of("echo") == 4
    assert await catalog.timeout_of("echo") == 2


async def test_handlers_hold_for_known_ones() -> None:
    """What a handler does not say is left to the settings; 0 retries are said."""
    info = HandlerInfo(queue="mail", max_retries=0)
    catalog = Fleet(worker("a", 1, echo=info)).catalog
    assert await catalog.queue_of("echo") == "mail"
    assert await catalog.max_retries_of("echo") == 0
    assert await catalog.timeout_of("echo") == 2


async def test_latest_worker_is_believed() -> None:
    """During a roll-out the new version of a handler counts."""
    old, new = HandlerInfo(timeout_seconds=1), HandlerInfo(timeout_seconds=9)
    fleet = Fleet(worker("z", 2, echo=new), worker("a", 1, echo=old, fail=old))
    assert await fleet.catalog.timeout_of("echo") == 9
    assert await fleet.catalog.timeout_of("fail") == 1


async def test_fleet_is_asked_now_and_then() -> None:
    """Many requests share one question; its answer is used until it is too old."""
    fleet = Fleet(worker("a", 1, echo=HandlerInfo(queue="one")))
    answers = await asyncio.gather(*(fleet.catalog.queue_of("echo") for _ in range(50)))
    assert (set(answers), fleet.asked) == ({"one"}, 1)
    fleet.workers = [worker("a", 1, echo=HandlerInfo(queue="two"))]
    fleet.now += MAX_AGE_SECONDS - 0.01
    assert (await fleet.catalog.queue_of("echo"), fleet.asked) == ("one", 1)
    fleet.now += 0.01
    assert (await fleet.catalog.queue_of("echo"), fleet.asked) == ("two", 2)
