"""Handlers that do not stop, and handlers that take their worker along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from deadline import wait_until

from taskqueue_core import errors
from taskqueue_core.broker import Broker, open_broker, with_url
from taskqueue_core.broker.embedded import find_live
from taskqueue_core.config import child_environ
from taskqueue_core.models import NewTask, Task
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings
from taskqueue_core.states import TERMINAL, TaskState

pytestmark = pytest.mark.anyio

ROOT = Path(errors.__file__).parents[1]
ALONE = [sys.executable, "-m", "taskqueue_core.worker"]
COMMAND = [sys.executable, "-c", "from taskqueue_core.cli import worker_main; worker_main()"]

#: The plugin also makes the worker that loads it impatient: a replacement would take a minute.
PLUGIN = """
import asyncio, os, sys, time
from taskqueue_core.plugin import handler

if "taskqueue_core.worker.executor" in sys.modules:
    from taskqueue_core.worker import recycling
    from taskqueue_core.worker.executor import Executor
    recycling.LEAST_AGE_SECONDS = 0.0
    Executor.__init__.__kwdefaults__["grace_seconds"] = 0.5

BORN = time.time()

def here():
    return {"pid": os.getpid(), "born": BORN}

@handler("ask", timeout=30)
async def ask(ctx, payload):
    return here()

@handler("ask-child", timeout=30, executor="process")
def ask_child(ctx, payload):
    return here()

@handler("nap", timeout=60)
async def nap(ctx, payload):
    await asyncio.sleep(60)

@handler("thread", timeout=1)
def thread(ctx, payload):
    time.sleep(3600)

@handler("deaf", timeout=1)
async def deaf(ctx, payload):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

@handler("block", timeout=1)
async def block(ctx, payload):
    time.sleep(3600)

@handler("deadly", timeout=30)
async def deadly(ctx, payload):
    os._exit(9)
"""


class Stage:
    """Worker processes with a plugin of their own, and what they log."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "stuck_plugin.py").write_text(PLUGIN)
        info = folder / "stuck_plugin-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stuck-plugin\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[taskqueue.plugins]\nmain = stuck_plugin\n")

    def start(
        self, command: list[str] = ALONE, *, queues: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it takes tasks."""
        worker = self.settings.worker.model_copy(update={"queues": queues})
        environ = child_environ(self.settings.model_copy(update={"worker": worker}), os.environ)
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(self.folder)])
        number = len(self.processes)
        with (self.folder / f"{number}.log").open("wb") as stderr:
            process = subprocess.Popen(command, env=environ, cwd=self.folder, stderr=stderr)
        self.processes.append(process)
        self.said(number, "worker started")
        return process

    def said(self, number: int, event: str, times: int = 1) -> list[dict[str, Any]]:
        """Return the log lines of a worker with this event once there are so many."""

        def found() -> list[dict[str, Any]]:
            text = (self.folder / f"{number}.log").read_text()
            lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            return [line for line in lines if line["event"] == event]

        wait_until(lambda: len(found()) >= times, f"{times} x {event!r}", within_seconds=25)
        return found()

    def end(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            process.kill()
            process.wait(10)


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with a short lease, for workers of two slots, without retries."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(namespace=namespace, retry_max_attempts=0),
        worker=WorkerSettings(
            concurrency=2,
            heartbeat_interval_seconds=0.3,
            lease_seconds=1.0,
            shutdown_timeout_seconds=30,
        ),
    )


@pytest.fixture
def stage(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    """Yield a stage; the workers that it got are ended."""
    stage = Stage(settings, tmp_path)
    yield stage
    stage.end()


async def submit(broker: Broker, task_type: str) -> str:
    return (await broker.submit(NewTask(id=broker.new_task_id(), type=task_type))).id


async def ended(broker: Broker, task_id: str, within_seconds: float = 20.0) -> Task:
    """Return a task once it has ended."""
    end = time.monotonic() + within_seconds
    while (task := await broker.inspection.get(task_id)).state not in TERMINAL:
        assert time.monotonic() < end, task
        await anyio.sleep(0.02)
    return task


async def where(broker: Broker, task_type: str = "ask") -> dict[str, Any]:
    """Run a task that tells in which process it has run."""
    task = await ended(broker, await submit(broker, task_type))
    assert task.state is TaskState.COMPLETED, task
    answer: dict[str, Any] = json.loads(task.result)
    return answer


@pytest.mark.parametrize("task_type", ["thread", "deaf"])
async def test_a_lone_worker_with_a_stuck_handler_starts_again_in_place(
    broker: Broker, stage: Stage, task_type: str
) -> None:
    """Same process id, nothing left of the handler; the task has failed, and others run."""
    worker = stage.start()
    before = await where(broker)
    stuck = await submit(broker, task_type)
    assert (await ended(broker, stuck)).state is TaskState.DEAD_LETTER
    stage.said(0, "worker started", times=2)
    [line] = stage.said(0, "handlers do not stop after their timeout: this process is replaced")
    assert line["task_ids"] == [stuck]
    after = await where(broker)
    assert before["pid"] == after["pid"] == worker.pid
    assert after["born"] > before["born"]
    assert len(await broker.inspection.workers()) == 1
    worker.terminate()
    assert worker.wait(10) == 0


async def test_a_worker_whose_loop_is_blocked_for_good_starts_again(
    broker: Broker, stage: Stage
) -> None:
    """Its heartbeat notices; the task loses its lease and is run alone, where it is killed."""
    worker = stage.start()
    before = await where(broker)
    hung = await submit(broker, "block")
    stage.said(0, "worker started", times=2)
    task = await ended(broker, hung)
    assert (task.state, task.lost_leases, task.attempts) == (TaskState.DEAD_LETTER, 1, 1)
    assert task.error == "timed out after 1 s"
    assert (await where(broker))["born"] > before["born"]
    worker.terminate()
    assert worker.wait(10) == 0


async def test_a_supervised_worker_is_started_again_and_keeps_its_broker(stage: Stage) -> None:
    """The command with a broker of its own: a parent owns it, and only the worker is replaced."""
    data = stage.folder / "data"
    stage.settings = stage.settings.model_copy(update={"data_dir": data, "redis": RedisSettings()})
    parent = stage.start(COMMAND)
    broker = open_broker(with_url(stage.settings, str(find_live(data))))
    before, first = await where(broker), await run_id(broker)
    await ended(broker, await submit(broker, "thread"))
    stage.said(0, "worker started", times=2)
    after = await where(broker)
    assert len({before["pid"], after["pid"], parent.pid}) == 3
    assert await run_id(broker) == first
    assert len(await broker.inspection.workers()) == 1
    await broker.close()
    parent.terminate()
    assert parent.wait(10) == 0


async def run_id(broker: Broker) -> str:
    """Return what tells one run of the server from another."""
    redis: Any = broker.redis
    return str((await redis.info("server"))["run_id"])


async def test_a_signal_ends_a_worker_that_was_to_be_replaced(broker: Broker, stage: Stage) -> None:
    """The first one makes it a stop like any other, the second one hurries that."""
    worker = stage.start()
    napping = await submit(broker, "nap")
    await submit(broker, "thread")
    stage.said(0, "handlers do not stop after their timeout: this process is replaced")
    stage.said(0, "finishing tasks")
    worker.terminate()
    await anyio.sleep(0.3)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 3
    assert (await broker.inspection.get(napping)).state is TaskState.PENDING


async def test_a_task_that_kills_its_worker_does_so_once(broker: Broker, stage: Stage) -> None:
    """It loses its lease and runs in a child next: it fails, and the worker is as it was."""
    # Its heartbeat goes on, so the lapse is not taken for an outage of the broker and forgiven.
    stage.start(queues=("elsewhere",))
    first = stage.start()
    deadly = await submit(broker, "deadly")
    assert first.wait(10) == 9
    second = stage.start()
    neighbour = await where(broker)
    task = await ended(broker, deadly)
    assert (task.state, task.lost_leases, task.deliveries) == (TaskState.DEAD_LETTER, 1, 2)
    assert task.error == "the handler's process died (exit code 9)"
    assert await where(broker) == neighbour
    assert second.poll() is None


async def test_children_end_with_their_worker(broker: Broker, stage: Stage) -> None:
    """Whether it is stopped or killed."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        worker = stage.start()
        told = await where(broker, "ask-child")
        assert told["pid"] != worker.pid
        worker.send_signal(how)
        worker.wait(10)
        wait_until(gone(told["pid"]), "the child's end")


def gone(pid: int) -> Callable[[], bool]:
    """Return whether a process is gone; one that is not ours may be a zombie for a while."""

    def look() -> bool:
        try:
            return ") Z " in Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return True

    return look
