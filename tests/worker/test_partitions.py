"""One worker serves all partitions of a namespace, with one set of slots."""

from __future__ import annotations

from typing import Any

import pytest
from crew import at_work, ended, eventually, submit

from taskqueue_core.broker import open_broker
from taskqueue_core.keys import partition_of
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

COMPLETED = TaskState.COMPLETED


@handler("counted")
async def counted(ctx: TaskContext, payload: object) -> int:
    """Answer the partition of the task."""
    return partition_of(ctx.id)


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_tasks_of_every_partition_run(settings: Settings, concurrency: int) -> None:
    """Tasks are spread over the partitions; each runs, and its id says where it was."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    work = settings.worker.model_copy(update={"concurrency": concurrency})
    settings = settings.model_copy(update={"queue": queue, "worker": work})
    broker = open_broker(settings)
    await broker.prepare()
    ids = [await submit(broker, "counted") for _ in range(30)]
    assert {partition_of(task_id) for task_id in ids} == {0, 1, 2}
    async with at_work(settings, counted):
        for task_id in ids:
            task = await ended(broker, task_id)
            assert (task.state, task.result) == (
                COMPLETED,
                str(partition_of(task_id)).encode(),
            )
    assert await broker.inspection.audit() == []
    assert await broker.inspection.workers() == []
    await broker.close()


async def test_every_listener_has_a_connection(settings: Settings) -> None:
    """The smallest pool lets a worker wait for bells and messages of all partitions at once."""
    queue = settings.queue.model_copy(update={"partitions": 8})
    redis = settings.redis.model_copy(update={"pool_size": 1})
    settings = settings.model_copy(update={"queue": queue, "redis": redis})
    broker = open_broker(settings)
    await broker.prepare()
    async with at_work(settings, counted) as worker:
        pool: Any = worker._blocking
        in_use = pool.connection_pool._in_use_connections
        await eventually(lambda: len(in_use) == 16, "two blocked connections per partition")
        for _ in range(8):
            assert (await ended(broker, await submit(broker, "counted"))).state is COMPLETED
    await broker.close()
