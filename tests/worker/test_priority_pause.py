"""A whole worker while a priority is paused: the others run, and its own at once afterwards."""

from __future__ import annotations

import time

import pytest
from crew import at_work, ended, eventually, reached, submit
from script import Script, quick_settings, run

from taskqueue_core.broker import Broker
from taskqueue_core.models import Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

COMPLETED = TaskState.COMPLETED


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with a short lease."""
    return quick_settings(redis_url, namespace)


async def test_the_others_run_and_a_resume_takes_effect_at_once(
    broker: Broker, settings: Settings
) -> None:
    """What runs is finished, what waits or comes due stays, less urgent tasks pass it."""
    script = Script()
    async with at_work(settings, script.handler) as worker:
        running = await submit(broker, "script", priority=2, payload={"do": "wait"})
        await eventually(lambda: script.contexts, "the first task")
        await broker.priorities.pause(Priority.HIGH)
        waiting = [await submit(broker, "script", priority=2, queue=name) for name in ("a", "b")]
        seconds, _ = await broker.redis.time()
        due = await submit(broker, "script", priority=2, scheduled_at_ms=seconds * 1000 + 1200)
        await reached(broker, due, TaskState.PENDING)
        script.go.set()
        assert (await ended(broker, running)).state is COMPLETED
        assert (await run(broker, priority=0)).state is COMPLETED
        # Its queues are known, looked through and empty as far as the worker may see.
        await eventually(worker._sections[0].fetcher.went_dry.is_set, "an idle worker")
        for one in (*waiting, due):
            assert (await broker.inspection.get(one)).state is TaskState.PENDING
        began = time.monotonic()
        await broker.priorities.resume(Priority.HIGH)
        for one in (*waiting, due):
            assert (await ended(broker, one)).state is COMPLETED
        assert time.monotonic() - began < 1


async def test_a_worker_that_comes_later_obeys(broker: Broker, settings: Settings) -> None:
    """It is told by the broker, whenever it joins, and leaves the backlog as it is."""
    await broker.priorities.pause(Priority.NORMAL)
    waiting = await submit(broker, "script")
    script = Script()
    async with at_work(settings, script.handler):
        assert (await run(broker, priority=3)).state is COMPLETED
    assert (await broker.inspection.get(waiting)).state is TaskState.PENDING
    assert waiting not in script.ids
