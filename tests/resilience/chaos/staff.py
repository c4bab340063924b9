"""Workers inside the test's process, and waiting for what they do."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from taskqueue_core.broker import Broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.models import NewTask, Outcome, OutcomeKind, Task
from taskqueue_core.plugin import PluginHost
from taskqueue_core.settings import Settings
from taskqueue_core.states import TERMINAL, TaskState
from taskqueue_core.worker import Worker


def kill(broker: EmbeddedBroker) -> None:
    """End a broker at once; its owner may revive it."""
    os.kill(broker.pid, signal.SIGKILL)
    assert broker._process is not None
    broker._process.wait(10)


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, *, within_seconds: float = 15.0
) -> Any:
    """Return the first true answer; fail, naming ``what``, when there is none in time."""
    end = time.monotonic() + within_seconds
    while not (answer := await condition()):
        assert time.monotonic() < end, f"not within {within_seconds} s: {what}"
        await asyncio.sleep(0.02)
    return answer


async def submit(broker: Broker, task_type: str, payload: object = None, **fields: Any) -> str:
    """Submit a task and return its id."""
    body = msgspec.json.encode({} if payload is None else payload)
    task = NewTask(id=broker.new_task_id(), type=task_type, payload=body, **fields)
    return (await broker.submit(task)).id


async def ended(broker: Broker, task_id: str, *, within_seconds: float = 15.0) -> Task:
    """Return a task once it has ended."""

    async def look() -> Task | None:
        task = await broker.inspection.get(task_id)
        return task if task.state in TERMINAL else None

    found = await until(look, f"the end of {task_id}", within_seconds=within_seconds)
    assert isinstance(found, Task)
    return found


async def reached(broker: Broker, task_id: str, state: TaskState) -> Task:
    """Return a task once it is in a state."""

    async def look() -> Task | None:
        task = await broker.inspection.get(task_id)
        return task if task.state is state else None

    found = await until(look, f"{task_id} {state}")
    assert isinstance(found, Task)
    return found


async def bury_all(broker: Broker, count: int) -> None:
    """Let that many tasks that wait in the default queue die, all that there are."""
    streams = [broker.partitions[0].stream("default", 1)]
    session = broker.session("w0", "i0")
    await session.register(concurrency=100, version="1", handlers={})
    for request in range(1, 1 + -(-count // 100)):
        await session.heartbeat(request=request - 1, active=0)
        fetched = await session.fetch(100, streams=streams, request=request)
        outcomes = [
            Outcome(delivery=one, kind=OutcomeKind.FAIL, value=b"boom")
            for one in fetched.deliveries
        ]
        await session.fail(outcomes)
    await session.deregister()
    assert (await broker.inspection.queue_stats()).dead_letter_count == count


@asynccontextmanager
async def at_work(settings: Settings, *handlers: object, name: str = "w1") -> AsyncIterator[Worker]:
    """Run a worker until the end of the block; it has registered when the block begins."""
    worker = Worker(settings, PluginHost.of(*handlers), worker_id=name, rng=random.Random(name))
    running = asyncio.create_task(worker.run())

    async def has_begun() -> bool:
        return worker._sections[0].fetcher.is_open or running.done()

    try:
        await until(has_begun, "the worker's start")
        yield worker
    finally:
        worker.stop()
        await running
