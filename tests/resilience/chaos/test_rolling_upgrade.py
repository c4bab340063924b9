"""Two versions of workers, servers and scripts on one namespace, as while a fleet is upgraded.

A version brings its scripts along and calls them by their hash, so that what has to fit is the data
alone. The other version here has scripts of another text, and other limits in them.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from staff import at_work, ended, submit, until

from taskqueue_core import __version__
from taskqueue_core.broker import Broker, WorkerSession, open_broker
from taskqueue_core.config import child_environ
from taskqueue_core.errors import SchemaError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Delivery, NewTask, Outcome, OutcomeKind, OutcomeStatus, Priority
from taskqueue_core.plugin import PluginHost, TaskContext, handler
from taskqueue_core.settings import EventSettings, Settings
from taskqueue_core.states import TaskState
from taskqueue_core.worker import Worker
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio

#: A worker process that says to be of an earlier version.
EARLIER = """
import sys
import taskqueue_core._version
taskqueue_core._version.__version__ = "0.0.1"
from taskqueue_core.worker.process import main
sys.exit(main())
"""
LATER = "import sys\nfrom taskqueue_core.worker.process import main\nsys.exit(main())"


@handler("nap", timeout=60)
async def nap(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Do nothing."""


@pytest.fixture
def earlier(fragile: Settings) -> Settings:
    """Return settings that make other scripts."""
    queue = fragile.queue.model_copy(update={"max_queues": 200, "max_queue_size": 900_000})
    changes = {"queue": queue, "events": EventSettings(max_length=90_000)}
    return fragile.model_copy(update=changes)


@pytest.fixture
async def earlier_broker(earlier: Settings, fragile_broker: Broker) -> AsyncIterator[Broker]:
    """Yield a client with these scripts; it finds everything in its place, too."""
    broker = open_broker(earlier)
    await broker.prepare()
    hashes = [set(one.scripts._hashes.values()) for one in (broker, fragile_broker)]
    assert hashes[0].isdisjoint(hashes[1])
    yield broker
    assert await broker.inspection.audit() == []
    await broker.close()


class Pair:
    """One worker whose calls are made by either version."""

    def __init__(self, first: Broker, second: Broker, name: str) -> None:
        self.brokers = first, second
        self.sessions = first.session(name, "i1"), second.session(name, "i1")
        self._requests = 0

    async def fetch(self, session: WorkerSession) -> Delivery:
        """Take the one task that waits."""
        self._requests += 1
        streams = [session.keys.stream("default", 1)]
        found = await session.fetch(1, streams=streams, request=self._requests)
        [delivery] = found.deliveries
        return delivery

    async def start(self) -> Delivery:
        """Submit by one version, take by the other, renew the lease by the first."""
        await submit(self.brokers[0], "nap", {"text": "x" * 100})
        delivery = await self.fetch(self.sessions[1])
        self._requests += 1
        beat = await self.sessions[0].heartbeat(
            request=self._requests, held=[delivery], active=1, counters={"wait_ms:1": 1}
        )
        assert (beat.is_known, beat.statuses) == (True, [1])
        return delivery


@pytest.mark.parametrize("is_reverse", [False, True])
async def test_scripts_of_two_versions_take_turns(
    fragile_broker: Broker, earlier_broker: Broker, is_reverse: bool
) -> None:
    """In a task's whole life every step is made by the other version than the one before."""
    brokers = [earlier_broker, fragile_broker]
    pair = Pair(*(reversed(brokers) if is_reverse else brokers), name="w1")
    (a, b), (by_a, by_b) = pair.brokers, pair.sessions
    await by_a.register(concurrency=1, version="1", handlers={})

    done = await pair.start()
    complete = Outcome(kind=OutcomeKind.COMPLETE, delivery=done, value=b"1" * 100)
    assert await by_b.complete([complete]) == [OutcomeStatus.ACCEPTED]
    assert await by_a.complete([complete]) == [OutcomeStatus.ALREADY]

    given_back = await pair.start()
    await by_a.release([Outcome(kind=OutcomeKind.RELEASE, delivery=given_back)])
    failing = await pair.fetch(by_b)
    fail = Outcome(kind=OutcomeKind.FAIL, delivery=failing, max_retries=1, history=b"{}")
    assert await by_a.fail([fail]) == [OutcomeStatus.ACCEPTED]
    assert (await b.promote())[0] == 1
    last = await pair.fetch(by_a)
    assert (last.digits, last.number, last.attempts) == (failing.digits, 3, 2)
    await by_b.fail([Outcome(kind=OutcomeKind.FAIL, delivery=last, max_retries=1)])
    assert (await a.inspection.queue_stats()).dead_letter_count == 1
    assert await b.redrive() == 1
    task_id = await submit(b, "nap", scheduled_at_ms=4_000_000_000_000)
    await a.cancel(task_id)
    await b.retry(task_id)
    assert await a.purge(Priority.NORMAL) == 2
    await by_b.stop()
    assert await by_a.deregister()
    assert [event.type for event in await events_of(b)] == [
        event.type for event in await events_of(a)
    ]


async def events_of(broker: Broker) -> list[Any]:
    """Return all events as this version reads them."""
    feed = broker.event_feed()
    count, found = (await broker.event_positions())[0], []
    async with asyncio.timeout(10):
        async for events in feed.follow({0: 0}):
            found += events
            if len(found) >= count:
                break
    await feed.close()
    return found


@contextmanager
def process(code: str, settings: Settings, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process to the end of the block."""
    worker = settings.worker.model_copy(update={"id": name})
    environ = child_environ(settings.model_copy(update={"worker": worker}), os.environ)
    running = subprocess.Popen([sys.executable, "-c", code], env=environ)
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run a server in this process and yield a client of it."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        yield http


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_fleet_is_upgraded_one_by_one(
    fragile: Settings,
    earlier: Settings,
    fragile_broker: Broker,
    earlier_broker: Broker,
    end: signal.Signals,
) -> None:
    """What either version accepts is run by either one; one that ends leaves its tasks to it."""

    async def versions(count: int) -> list[str]:
        async def look() -> list[str]:
            found = sorted(one.version for one in await fragile_broker.inspection.workers())
            return found if len(found) == count else []

        found: list[str] = await until(look, f"{count} workers", within_seconds=20)
        return found

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(api(one)) for one in (earlier, fragile)]
        old = stack.enter_context(process(EARLIER, earlier, "old"))
        assert await versions(1) == ["0.0.1"]
        ids = [await post(clients[number % 2]) for number in range(8)]
        stack.enter_context(process(LATER, fragile, "new"))
        assert await versions(2) == ["0.0.1", __version__]
        runners: set[str] = set()

        async def both_run() -> bool:
            some = [await post(clients[number % 2]) for number in range(8)]
            ids.extend(some)
            runners.update(await runners_of(clients[0], some))
            return runners == {"old", "new"}

        await until(both_run, "tasks run by either worker")
        ids += [await post(clients[number % 2]) for number in range(8)]
        old.send_signal(end)
        assert old.wait(10) == (0 if end is signal.SIGTERM else -signal.SIGKILL)
        for task_id in ids:
            task = await ended(earlier_broker, task_id)
            assert (task.state, task.attempts) == (TaskState.COMPLETED, 1)
            same = [(await client.get(f"/api/v1/tasks/{task_id}")).json() for client in clients]
            assert same[0] == same[1]
        assert await versions(1) == [__version__]


async def post(client: httpx.AsyncClient) -> str:
    """Submit a task and return its id."""
    task = {"type": "sleep", "payload": {"duration": 100}}
    answer = await client.post("/api/v1/tasks", json=task)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def runners_of(client: httpx.AsyncClient, ids: list[str]) -> set[str]:
    """Return the workers of these tasks once all of them are completed."""
    runners = set()
    for task_id in ids:

        async def completed(path: str = f"/api/v1/tasks/{task_id}") -> dict[str, Any]:
            task = (await client.get(path)).json()
            return dict(task) if task["state"] == "completed" else {}

        runners.add((await until(completed, f"the end of {task_id}"))["worker_id"])
    return runners


async def test_what_a_later_version_adds_is_left_alone(
    fragile_broker: Broker, fragile: Settings
) -> None:
    """Fields that this version does not know do not disturb it, and it does not take them away."""
    redis: Any = fragile_broker.redis
    keys = fragile_broker.partitions[0]
    await redis.hset(keys.meta, "later", "1")
    task = NewTask(id=fragile_broker.new_task_id(), type="nap")
    await fragile_broker.submit(task)
    await redis.hset(keys.task(id_to_hex(task.id)), "later", "1")
    async with at_work(fragile, nap):
        await redis.hset(keys.worker("w1"), "later", "1")
        assert (await ended(fragile_broker, task.id)).state is TaskState.COMPLETED
        assert [one.id for one in await fragile_broker.inspection.workers()] == ["w1"]
    assert await redis.hget(keys.task(id_to_hex(task.id)), "later") == b"1"
    assert await redis.hget(keys.meta, "later") == b"1"


async def test_a_namespace_of_a_later_schema_ends_an_earlier_worker(
    fragile_broker: Broker, fragile: Settings
) -> None:
    """It finishes what it has, then ends and says why; it would read what it cannot understand."""
    redis: Any = fragile_broker.redis
    keys = fragile_broker.partitions[0]
    worker = Worker(fragile, PluginHost.of(nap), worker_id="w1", rng=random.Random(1))
    running = asyncio.create_task(worker.run())
    await ended(fragile_broker, await submit(fragile_broker, "nap"))
    await redis.hset(keys.meta, "schema", "2")
    # Whoever moves a namespace to another schema starts with an empty list of workers.
    await redis.unlink(keys.worker("w1"))
    with pytest.raises(SchemaError, match="has schema 2, this version needs 1"):
        async with asyncio.timeout(10):
            await running
    await redis.hset(keys.meta, "schema", "1")
