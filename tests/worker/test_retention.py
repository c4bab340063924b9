"""Retention: ended tasks go when their time is over, in steps."""

from __future__ import annotations

import random

import pytest
from crew import submit

from taskqueue_core.broker import Broker
from taskqueue_core.errors import NotFoundError
from taskqueue_core.worker.retention import INTERVAL_SECONDS, Retention

pytestmark = pytest.mark.anyio


async def test_expired_tasks_are_deleted_step_by_step(broker: Broker) -> None:
    """There is no wait while a step was full, then one of about ten seconds."""
    ids = [await submit(broker) for _ in range(101)]
    for task_id in ids:
        await broker.cancel(task_id)
    done = broker.partitions[0].done
    names: list[bytes] = await broker.redis.zrange(done, 0, -1)
    await broker.redis.zadd(done, dict.fromkeys(names[1:], 1))
    retention = Retention(broker, random.Random(1))
    assert await retention.run_once() < 0.1
    assert 0.9 * INTERVAL_SECONDS <= await retention.run_once() <= 1.1 * INTERVAL_SECONDS
    assert await broker.redis.zrange(done, 0, -1) == names[:1]
    gone = ids.copy()
    gone.remove(next(one for one in ids if one.replace("-", "").encode() == names[0]))
    with pytest.raises(NotFoundError):
        await broker.inspection.get(gone[0])
