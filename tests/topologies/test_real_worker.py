"""A real worker over every topology: it serves all partitions with one set of slots."""

from __future__ import annotations

import asyncio
import random

import pytest
from crowd import settings_for

from taskqueue_core.broker import Broker
from taskqueue_core.keys import partition_of
from taskqueue_core.models import NewTask
from taskqueue_core.plugin import PluginHost, TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.worker import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["redis", "valkey", "sentinel", "cluster"])
def settings(request: pytest.FixtureRequest, namespace: str) -> Settings:
    """Return settings for each topology in turn; the audit after the test is ``broker``'s."""
    return settings_for(request.getfixturevalue(request.param), namespace)


@handler("where")
async def where(ctx: TaskContext, payload: object) -> int:
    """Answer the partition of the task."""
    return partition_of(ctx.id)


async def test_tasks_of_every_partition_run(broker: Broker, settings: Settings) -> None:
    """Each task runs where its id says."""
    tasks = [NewTask(id=broker.new_task_id(), type="where") for _ in range(40)]
    worker = Worker(settings, PluginHost.of(where), worker_id="w1", rng=random.Random("topologies"))
    running = asyncio.create_task(worker.run())
    await broker.submit_many(tasks)
    async with asyncio.timeout(20):
        while (await broker.inspection.queue_stats()).backlog:  # noqa: ASYNC110 (Redis knows)
            await asyncio.sleep(0.02)
    worker.stop()
    assert await running == 0
    for task in tasks:
        stored = await broker.inspection.get(task.id)
        assert (stored.result, stored.attempts) == (str(partition_of(task.id)).encode(), 1)
    assert await broker.inspection.workers() == []
