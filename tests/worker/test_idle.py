"""What a worker with nothing to do asks of Redis, and how it hears of new queues all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from crew import at_work, eventually, submit
from script import Script, quick_settings
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.models import Priority
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio

#: Window in which commands are counted, in seconds, and the most a second that are allowed.
WINDOW_SECONDS, A_SECOND = 10.0, 2.0


async def sent(settings: Settings, seconds: float) -> Counter[str]:
    """Count the commands that any client sends meanwhile, by name; those of scripts apart.

    Those for another namespace do not count: some test's server may not have ended yet.
    """
    counts: Counter[str] = Counter()
    own = f"tq:{{{settings.queue.namespace}."
    redis: Any = open_redis(settings, blocks_seconds=seconds)
    async with redis.monitor() as monitor:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    seen = await monitor.next_command()
                    command = seen["command"]
                    is_foreign = "tq:{" in command and own not in command
                    if not is_foreign:
                        counts[command.split()[0]] += seen["client_type"] != "lua"
    await redis.aclose()
    return +counts


async def test_an_idle_worker_asks_little(broker: Broker, settings: Settings) -> None:
    """At most two commands a second, once everything has begun, recovery too."""
    # A queue that it knows: its bell and its streams are asked for.
    await submit(broker, "script")
    async with at_work(settings, Script().handler) as worker:
        recovery = worker._sections[0].desk.recovery
        recovery._patience = 0.0
        await eventually(lambda: recovery._since is not None, "the first beat")
        # Connections are made, scripts are loaded, the one task ends.
        await sent(settings, 1.5)
        counts = await sent(settings, WINDOW_SECONDS)
    # Either edge of the window may cut a loop's turn: one command more for each of half the loops.
    assert 0 < counts.total() <= A_SECOND * WINDOW_SECONDS + 5, counts
    assert counts.keys() <= {"EVALSHA", "BLPOP"}


async def test_a_paused_backlog_asks_no_more(broker: Broker, settings: Settings) -> None:
    """Tasks that may not start cost no more than if there were none."""
    await broker.priorities.pause(Priority.NORMAL)
    for _ in range(250):
        await submit(broker, "script")
    async with at_work(settings, Script().handler) as worker:
        recovery = worker._sections[0].desk.recovery
        recovery._patience = 0.0
        await eventually(lambda: recovery._since is not None, "the first beat")
        await sent(settings, 1.5)
        counts = await sent(settings, WINDOW_SECONDS)
    assert 0 < counts.total() <= A_SECOND * WINDOW_SECONDS + 5, counts
    assert (await broker.inspection.queue_stats()).backlog == 250


async def test_a_worker_that_takes_nothing_hears_of_new_queues(
    broker: Broker, redis_url: str, namespace: str
) -> None:
    """No bell and no fetch tells it: its heartbeats do, before a lease there can run out."""
    settings = quick_settings(redis_url, namespace)
    with capture_logs():
        async with at_work(settings, Script().handler) as worker:
            fetcher = worker._sections[0].fetcher
            await broker.pause("w1")
            await eventually(lambda: fetcher.is_paused, "the pause")
            await submit(broker, "script", queue="mail")
            wanted = broker.partitions[0].stream("mail", 1)
            lease = settings.worker.lease_seconds
            await eventually(lambda: wanted in fetcher.streams, "the queue", within_seconds=lease)
            await broker.purge(priority=1)
