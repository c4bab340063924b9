"""What the worker's tests share: deliveries without a broker, a desk that notes, whole workers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.keys import id_from_hex, id_to_hex
from taskqueue_core.logs import Throttle
from taskqueue_core.models import (
    Delivery,
    Fetched,
    NewTask,
    Outcome,
    OutcomeKind,
    OutcomeStatus,
    Task,
)
from taskqueue_core.plugin import PluginHost
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_core.worker import Worker
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.loop import Backoff
from taskqueue_core.worker.measurements import Measurements

ENDED = {TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED}


async def eventually(
    condition: Callable[[], object], what: str, *, within_seconds: float = 5.0
) -> None:
    """Return once ``condition`` holds; fail, naming ``what``, when it does not in time."""
    end = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < end, f"not within {within_seconds} s: {what}"
        await asyncio.sleep(0.005)


def new(broker: Broker, task_type: str = "echo", payload: object = None, **fields: Any) -> NewTask:
    """Return a task to submit."""
    body = msgspec.json.encode({} if payload is None else payload)
    return NewTask(id=broker.new_task_id(), type=task_type, payload=body, **fields)


async def submit(broker: Broker, task_type: str = "echo", **fields: Any) -> str:
    """Submit a task and return its id."""
    return (await broker.submit(new(broker, task_type, **fields))).id


async def reached(
    broker: Broker, task_id: str, *states: TaskState, within_seconds: float = 5.0
) -> Task:
    """Return a task once it is in one of the states."""
    end = time.monotonic() + within_seconds
    while (task := await broker.inspection.get(task_id)).state not in states:
        assert time.monotonic() < end, f"not {states} within {within_seconds} s: {task}"
        await asyncio.sleep(0.005)
    return task


async def ended(broker: Broker, task_id: str, *, within_seconds: float = 5.0) -> Task:
    """Return a task once it has ended."""
    return await reached(broker, task_id, *ENDED, within_seconds=within_seconds)


def delivery(task_type: str = "echo", number: int = 1, **fields: Any) -> Delivery:
    """Return a delivery that no broker knows of."""
    values: dict[str, Any] = {
        "digits": f"{number:032x}",
        "entry_id": f"{number}-0",
        "queue": "default",
        "priority": 1,
        "number": 1,
        "attempts": 1,
        "lost_leases": 0,
        "timeout_seconds": None,
        "max_retries": None,
        "body": b"[{}]",
        "fetched_at_ms": 2,
        "enqueued_at_ms": 1,
    }
    return Delivery(type=task_type, **values | fields)


def completed(one: Delivery, value: bytes = b"true") -> Outcome:
    """Return a successful outcome."""
    return Outcome(delivery=one, kind=OutcomeKind.COMPLETE, value=value)


def backoff(name: str = "test") -> Backoff:
    """Return a backoff of its own."""
    return Backoff(name, Throttle(3, time.monotonic), random.Random(1))


class Notes:
    """A desk that runs nothing and notes everything."""

    def __init__(self) -> None:
        self.started: list[Delivery] = []
        self.statuses: list[OutcomeStatus] = []
        self.given_up: list[Outcome] = []
        self.answers: list[Fetched] = []

    def start(self, one: Delivery) -> None:
        """Note a delivery."""
        self.started.append(one)

    def settled(self, outcome: Outcome, status: OutcomeStatus) -> None:
        """Note how an outcome was taken."""
        self.statuses.append(status)

    def refused(self, outcome: Outcome, error: Exception) -> None:
        """Note an outcome that could not be reported."""
        self.given_up.append(outcome)

    def answered(self, fetched: Fetched, asked_at: float) -> None:
        """Note an answer."""
        self.answers.append(fetched)

    @property
    def ids(self) -> list[str]:
        """Return the ids of what was started, in order."""
        return [id_from_hex(one.digits) for one in self.started]


class Crew:
    """An executor, and the outcomes and misrouted deliveries that it hands on."""

    def __init__(self, settings: Settings, *plugins: object, grace_seconds: float = 10.0) -> None:
        self.outcomes: list[Outcome] = []
        self.misrouted: list[Delivery] = []
        self.measurements = Measurements()
        self.executor = Executor(
            settings,
            PluginHost.of(*plugins),
            "w1",
            self.measurements,
            report=self.outcomes.append,
            misrouted=self.misrouted.append,
            rng=random.Random(1),
            grace_seconds=grace_seconds,
        )

    async def outcome(self, one: Delivery, *, within_seconds: float = 5.0) -> Outcome:
        """Start a delivery and return its outcome."""
        self.executor.start(one)
        await eventually(lambda: self.outcomes, "an outcome", within_seconds=within_seconds)
        return self.outcomes[-1]


async def joined(broker: Broker, session: WorkerSession | None = None) -> WorkerSession:
    """Return a session, ``w1`` unless given, that is registered and has beaten once."""
    session = session or broker.session("w1", "i1")
    assert await session.register(concurrency=4, version="1", handlers={}) is None
    await session.heartbeat(request=-1, active=0)
    return session


async def take(session: WorkerSession, broker: Broker, wanted: int = 1) -> list[Delivery]:
    """Take tasks without a fetcher; the request number is never used twice."""
    streams = await all_streams(broker)
    fetched = await session.fetch(wanted, streams=streams, request=time.monotonic_ns(), lane=9)
    return fetched.deliveries


async def all_streams(broker: Broker) -> list[str]:
    """Return the streams of all queues, the highest priority first."""
    keys = broker.partitions[0]
    queues = await broker.inspection.queues(keys)
    return [keys.stream(queue, priority) for priority in (3, 2, 1, 0) for queue in queues]


async def fields(broker: Broker, task_id: str) -> dict[str, str]:
    """Return the hash of a task."""
    row: Any = await broker.redis.hgetall(broker.partitions[0].task(id_to_hex(task_id)))
    return {name.decode(): value.decode() for name, value in row.items()}


@asynccontextmanager
async def at_work(
    settings: Settings, *handlers: object, worker_id: str = "w1"
) -> AsyncIterator[Worker]:
    """Run a whole worker in this process; it stops, within its shutdown timeout, at the end."""
    worker = Worker(
        settings, PluginHost.of(*handlers), worker_id=worker_id, rng=random.Random(worker_id)
    )
    running = asyncio.create_task(worker.run())
    try:
        await eventually(lambda: worker._sections[0].fetcher.is_open or running.done(), "the start")
        yield worker
    finally:
        worker.stop()
        await running
    assert worker._sections[0].fetcher.free == settings.worker.concurrency
