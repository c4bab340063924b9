"""Worker processes that are killed, stopped, frozen, and that lose their broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from deadline import is_running, wait_until

from taskqueue_core import errors
from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.config import child_environ
from taskqueue_core.models import NewTask, Task
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ROOT = Path(errors.__file__).parents[1]
FINISHED, LEFT_TASKS = 0, 3
PLUGIN = """
import asyncio, os, time
from taskqueue_core.plugin import handler

def note(ctx, what):
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{what} {ctx.id} {ctx.fence} {os.getpid()} {time.time()}\\n")

@handler("nap", timeout=60)
async def nap(ctx, payload):
    note(ctx, "start")
    await asyncio.sleep(payload["seconds"])
    note(ctx, "end")

@handler("block", timeout=60)
async def block(ctx, payload):
    note(ctx, "start")
    time.sleep(payload["seconds"])
    note(ctx, "end")

@handler("thread", timeout=60)
def thread(ctx, payload):
    note(ctx, "start")
    time.sleep(payload["seconds"])

@handler("deaf", timeout=60)
async def deaf(ctx, payload):
    note(ctx, "start")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


class Fleet:
    """Worker processes with a small plugin, and the ledger that its handlers write."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        (folder / "ledger_plugin.py").write_text(PLUGIN)
        info = folder / "ledger_plugin-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ledger-plugin\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[taskqueue.plugins]\nmain = ledger_plugin\n")

    def start(self, **worker: Any) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it takes tasks."""
        process = self.start_unready(**worker)
        log = self.folder / f"worker-{len(self.workers) - 1}.log"
        wait_until(
            lambda: b"worker started" in log.read_bytes() or process.poll() is not None,
            "the worker's start",
            within_seconds=20,
        )
        assert process.poll() is None, log.read_text()
        return process

    def start_unready(self, **worker: Any) -> subprocess.Popen[bytes]:
        """Start a worker, whether it can work or not."""
        changed = self.settings.worker.model_copy(update=worker)
        settings = self.settings.model_copy(update={"worker": changed})
        environ = child_environ(settings, os.environ) | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)]),
            "LEDGER": str(self.folder / "ledger"),
        }
        command = [sys.executable, "-m", "taskqueue_core.worker"]
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, env=environ, cwd=self.folder, stderr=stderr)
        self.workers.append(process)
        return process

    def said(self, number: int) -> list[dict[str, Any]]:
        """Return the log of a worker."""
        lines = (self.folder / f"worker-{number}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, number: int) -> list[str]:
        """Return what a worker said, without the details."""
        return [line["event"] for line in self.said(number)]

    def ledger(self, what: str) -> list[list[str]]:
        """Return the rows of one kind: task id, fence, process, time."""
        path = self.folder / "ledger"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [row[1:] for row in rows if row[0] == what]

    def runner(self) -> subprocess.Popen[bytes]:
        """Return the worker that started a task last."""
        wait_until(lambda: self.ledger("start"), "a task at work", within_seconds=10)
        pid = int(self.ledger("start")[-1][2])
        return next(worker for worker in self.workers if worker.pid == pid)

    def end(self) -> None:
        """Leave nothing running, not even what a test has frozen."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(10)


@pytest.fixture
def settings(redis_url: str, namespace: str, lease_seconds: float) -> Settings:
    """Return settings with a short lease, for workers of two slots."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(namespace=namespace),
        worker=WorkerSettings(
            concurrency=2,
            heartbeat_interval_seconds=0.3,
            lease_seconds=lease_seconds,
            shutdown_timeout_seconds=5,
        ),
    )


@pytest.fixture
def lease_seconds() -> float:
    """Return the lease of the test's workers."""
    return 1.0


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    """Yield a fleet without workers; those that it got are ended."""
    fleet = Fleet(settings, tmp_path)
    yield fleet
    fleet.end()


async def submit(broker: Broker, task_type: str, seconds: float = 0.0) -> str:
    payload = json.dumps({"seconds": seconds}).encode()
    task = NewTask(id=broker.new_task_id(), type=task_type, payload=payload)
    return (await broker.submit(task)).id


async def in_state(
    broker: Broker, task_id: str, state: TaskState, *, within_seconds: float = 10.0
) -> Task:
    """Return a task once it is in a state."""
    end = time.monotonic() + within_seconds
    while (task := await broker.inspection.get(task_id)).state is not state:
        assert time.monotonic() < end, f"not {state} within {within_seconds} s: {task}"
        await anyio.sleep(0.02)
    return task


@pytest.mark.parametrize("lease_seconds", [1.5])
async def test_a_killed_workers_task_runs_again_and_completes_once(
    broker: Broker, fleet: Fleet, lease_seconds: float
) -> None:
    """Two workers, kill -9 of the one at work: within lease + 2 s the other one starts."""
    fleet.start()
    fleet.start()
    task_id = await submit(broker, "nap", 0.8)
    runner = fleet.runner()
    runner.kill()
    killed_at = time.time()
    task = await in_state(broker, task_id, TaskState.COMPLETED)
    starts = fleet.ledger("start")
    assert [int(fence) for _, fence, _, _ in starts] == [1, 2]
    assert float(starts[1][3]) - killed_at < lease_seconds + 2
    assert len(fleet.ledger("end")) == 1
    assert (task.attempts, task.deliveries, task.lost_leases) == (1, 2, 1)
    assert (await broker.inspection.stats())["finished:nap:completed"] == 1
    await gone(broker, 1)


async def test_a_worker_that_dies_instead_of_stopping_a_task(broker: Broker, fleet: Fleet) -> None:
    """Its task was to be cancelled, so it is: another worker does not run it."""
    fleet.start()
    task_id = await submit(broker, "deaf")
    runner = fleet.runner()
    assert not await broker.cancel(task_id, running=True)
    runner.kill()
    fleet.start()
    task = await in_state(broker, task_id, TaskState.CANCELLED)
    assert (task.deliveries, task.attempts) == (1, 0)
    assert not task.is_cancel_requested
    await gone(broker, 1)
    assert len(fleet.ledger("start")) == 1


async def gone(broker: Broker, left: int) -> None:
    """Wait until so many workers are registered."""
    end = time.monotonic() + 5
    while len(await broker.inspection.workers()) != left:
        assert time.monotonic() < end
        await anyio.sleep(0.05)


@pytest.mark.parametrize("task_type", ["nap", "block"])
async def test_a_task_of_three_leases_runs_once(
    broker: Broker, fleet: Fleet, task_type: str
) -> None:
    """Its lease is kept as long as it runs, even when its handler blocks the event loop."""
    fleet.start()
    fleet.start()
    task_id = await submit(broker, task_type, 3.0)
    task = await in_state(broker, task_id, TaskState.COMPLETED)
    assert (task.attempts, task.deliveries, task.lost_leases) == (1, 1, 0)
    assert (len(fleet.ledger("start")), len(fleet.ledger("end"))) == (1, 1)


async def test_sigterm_finishes_a_task(broker: Broker, fleet: Fleet) -> None:
    """What ends in time is completed: exit code 0."""
    worker = fleet.start()
    task_id = await submit(broker, "nap", 0.5)
    fleet.runner()
    worker.terminate()
    assert worker.wait(10) == FINISHED
    assert (await broker.inspection.get(task_id)).state is TaskState.COMPLETED
    assert await broker.inspection.workers() == []


@pytest.mark.parametrize("task_type", ["nap", "thread", "deaf"])
async def test_a_stop_gives_back_what_does_not_end(
    broker: Broker, fleet: Fleet, task_type: str
) -> None:
    """At once and without counting, exit code 3; whatever the handler does about it."""
    worker = fleet.start(shutdown_timeout_seconds=0.2)
    task_id = await submit(broker, task_type, 30.0)
    fleet.runner()
    worker.send_signal(signal.SIGINT if task_type == "nap" else signal.SIGTERM)
    assert worker.wait(10) == LEFT_TASKS
    task = await broker.inspection.get(task_id)
    assert (task.state, task.attempts, task.lost_leases) == (TaskState.PENDING, 0, 0)
    assert await broker.inspection.workers() == []


async def test_a_second_signal_does_not_wait(broker: Broker, fleet: Fleet) -> None:
    """The first one gives the task all the time it wants; the second does not."""
    worker = fleet.start(shutdown_timeout_seconds=60)
    task_id = await submit(broker, "nap", 30.0)
    fleet.runner()
    worker.terminate()
    wait_until(lambda: "finishing tasks" in fleet.events(0), "the stop")
    worker.terminate()
    assert worker.wait(10) == LEFT_TASKS
    assert (await broker.inspection.get(task_id)).state is TaskState.PENDING


async def test_a_frozen_worker_changes_nothing_when_it_thaws(broker: Broker, fleet: Fleet) -> None:
    """SIGSTOP for two leases: another worker completes its task, its own outcome is stale."""
    fleet.start()
    fleet.start()
    task_id = await submit(broker, "block", 0.5)
    frozen = fleet.runner()
    frozen.send_signal(signal.SIGSTOP)
    done = await in_state(broker, task_id, TaskState.COMPLETED)
    time.sleep(1.0)  # noqa: ASYNC251 (two leases have to pass)
    frozen.send_signal(signal.SIGCONT)
    await counted(broker, "stale")
    assert await broker.inspection.get(task_id) == done
    assert (done.deliveries, done.lost_leases) == (2, 1)
    again = await submit(broker, "nap")
    await in_state(broker, again, TaskState.COMPLETED)
    assert frozen.poll() is None


async def counted(broker: Broker, name: str) -> None:
    """Wait until a counter of the fleet is there."""
    end = time.monotonic() + 10
    while not (await broker.inspection.stats()).get(name):
        assert time.monotonic() < end, name
        await anyio.sleep(0.05)


@contextmanager
def broker_at(folder: Path) -> Iterator[EmbeddedBroker]:
    """Run an embedded broker whose death is part of the test."""
    broker = EmbeddedBroker(folder)
    broker.start_or_adopt()
    try:
        yield broker
    finally:
        broker.stop()


async def test_a_killed_broker_costs_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """Kill -9 of the broker in the middle, a restart on the same data: everything ends."""
    with broker_at(tmp_path / "data") as embedded:
        fleet.settings = fleet.settings.model_copy(
            update={"redis": RedisSettings(url=embedded.url)}
        )
        broker = open_broker(fleet.settings)
        await broker.prepare()
        fleet.start()
        fleet.start()
        ids = [await submit(broker, "nap", 0.3) for _ in range(12)]
        # What was acknowledged a second ago is on the disk ("everysec").
        fleet.runner()
        time.sleep(1.1)  # noqa: ASYNC251 (the disk's second)
        first = embedded.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_running(first), "the broker's death")
        time.sleep(1.5)  # noqa: ASYNC251 (an outage longer than the lease)
        assert embedded.revive()
        back_at = time.monotonic()
        ids.append(await insist(lambda: submit(broker, "nap")))
        for task_id in ids:
            task = await in_state(broker, task_id, TaskState.COMPLETED, within_seconds=15)
            assert task.lost_leases == 0
        assert time.monotonic() - back_at < 10
        assert await broker.inspection.audit() == []
        for worker in fleet.workers:
            worker.terminate()
        assert [worker.wait(10) for worker in fleet.workers] == [FINISHED, FINISHED]
        for number in range(2):
            trouble = [line for line in fleet.said(number) if line["level"] != "info"]
            assert len(trouble) <= 8, trouble
        await broker.close()
    assert not is_running(embedded.pid)


async def insist(call: Callable[[], Any]) -> Any:
    """Repeat a call until the broker answers."""
    end = time.monotonic() + 5
    while True:
        try:
            return await call()
        except errors.BrokerUnavailableError:
            assert time.monotonic() < end
            await anyio.sleep(0.05)


async def test_a_worker_waits_for_its_broker_and_says_little(fleet: Fleet, tmp_path: Path) -> None:
    """Started first, it is at work within five seconds of the broker."""
    folder = tmp_path / "data"
    with broker_at(folder) as embedded:
        url = embedded.url
    fleet.settings = fleet.settings.model_copy(update={"redis": RedisSettings(url=url)})
    worker = fleet.start_unready()
    time.sleep(2)  # noqa: ASYNC251 (time to complain in)
    assert worker.poll() is None
    with broker_at(folder) as embedded:
        assert embedded.url == url
        broker = open_broker(fleet.settings)
        await broker.prepare()
        task_id = await submit(broker, "nap")
        await in_state(broker, task_id, TaskState.COMPLETED, within_seconds=5)
        await broker.close()
        worker.terminate()
        assert worker.wait(10) == FINISHED
    assert len([line for line in fleet.said(0) if line["level"] != "info"]) <= 5
