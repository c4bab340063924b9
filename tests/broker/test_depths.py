"""depths: how much is where, over all queues."""

from __future__ import annotations

import pytest
from bench import Bench

from taskqueue_core.models import Depth, Priority
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def test_empty(bench: Bench) -> None:
    """A fresh namespace has nothing anywhere."""
    assert await bench.broker.scripts.call("depths", [bench.keys.meta]) == [0] * 11 + [b""]


async def test_sums_over_queues(bench: Bench) -> None:
    """Entries and unacknowledged ones per priority, then schedule, dead letters, backlog."""
    await bench.make(TaskState.DEAD_LETTER)
    await bench.make(TaskState.RUNNING, priority=3)
    await bench.make(TaskState.RETRYING)
    for queue in ("default", "mail"):
        await bench.submit(queue=queue, priority=3)
    await bench.submit(priority=0)
    await bench.make(TaskState.SCHEDULED)
    stats = await bench.broker.inspection.queue_stats()
    assert stats.depths == {
        Priority.CRITICAL: Depth(3, 1),
        Priority.HIGH: Depth(0, 0),
        Priority.NORMAL: Depth(0, 0),
        Priority.LOW: Depth(1, 0),
    }
    assert (stats.scheduled_count, stats.dead_letter_count, stats.backlog) == (2, 1, 6)


async def test_deleted_stream(bench: Bench) -> None:
    """A stream that is gone counts as empty."""
    await bench.submit()
    await bench.redis.delete(bench.keys.stream("default", 3))
    stats = await bench.broker.inspection.queue_stats()
    assert stats.depths[Priority.CRITICAL] == Depth(0, 0)
