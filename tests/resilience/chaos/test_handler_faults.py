"""Handlers that kill their process, hold the interpreter, hang, or are not there; real workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from staff import at_work, ended, reached, submit, until

from taskqueue_core import errors
from taskqueue_core.broker import Broker
from taskqueue_core.config import child_environ
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ROOT = Path(errors.__file__).parents[1]
PLUGIN = """
import asyncio, ctypes, os, time
from taskqueue_core.plugin import handler

@handler("nap", timeout=60)
async def nap(ctx, payload):
    await asyncio.sleep(payload.get("seconds", 0))
    return ctx.fence

@handler("die", timeout=60)
async def die(ctx, payload):
    os._exit(9)

@handler("crash", timeout=60)
async def crash(ctx, payload):
    ctypes.string_at(0)

@handler("hog", timeout=60)
async def hog(ctx, payload):
    # A C function that keeps the interpreter to itself: not even the heartbeat thread runs.
    if ctx.fence == "1":
        ctypes.PyDLL(None).usleep(int(payload["seconds"] * 1_000_000))
    return ctx.fence

@handler("hang", timeout=1)
async def hang(ctx, payload):
    time.sleep(600)
"""


class Crew:
    """Worker processes with the plugin above; one that ends is started again."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._folder = folder
        self._environ = child_environ(settings, os.environ) | {
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "daring_plugin.py").write_text(PLUGIN)
        info = folder / "daring_plugin-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daring-plugin\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[taskqueue.plugins]\nmain = daring_plugin\n")

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        process = subprocess.Popen(
            [sys.executable, "-m", "taskqueue_core.worker"],
            env=self._environ,
            cwd=self._folder,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    async def keep_alive(self) -> None:
        """Start another worker for each that ends."""
        while True:
            for process in [one for one in self.processes if one.poll() is not None]:
                self.processes.remove(process)
                self.start()
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@asynccontextmanager
async def crew_of(
    settings: Settings, folder: Path, broker: Broker, size: int
) -> AsyncIterator[Crew]:
    """Run some workers and keep that many alive."""
    crew = Crew(settings, folder)
    for _ in range(size):
        crew.start()
    keeping = asyncio.create_task(crew.keep_alive())

    async def are_there() -> bool:
        return len(await broker.inspection.workers()) >= size

    try:
        await until(are_there, "the workers' start", within_seconds=20)
        yield crew
    finally:
        keeping.cancel()
        crew.end()


@pytest.mark.timeout(120)
async def test_a_poison_task_is_found_out(
    fragile_broker: Broker, fragile: Settings, tmp_path: Path
) -> None:
    """A task that ends its process is a dead letter in the end; its neighbours are completed."""
    async with crew_of(fragile, tmp_path, fragile_broker, 2):
        neighbours = [await submit(fragile_broker, "nap", {"seconds": 0.5}) for _ in range(3)]
        poison = [await submit(fragile_broker, kind, max_retries=1) for kind in ("die", "crash")]
        for task_id in neighbours:
            task = await ended(fragile_broker, task_id, within_seconds=40)
            assert task.state is TaskState.COMPLETED
        for task_id in poison:
            task = await ended(fragile_broker, task_id, within_seconds=40)
            assert task.state is TaskState.DEAD_LETTER
            assert task.deliveries <= 1 + fragile.queue.max_lost_leases


async def test_a_handler_that_holds_the_interpreter(
    fragile_broker: Broker, fragile: Settings, tmp_path: Path
) -> None:
    """Not even a heartbeat gets out: the task is run elsewhere, once, and the first one's outcome
    is refused."""
    async with crew_of(fragile, tmp_path, fragile_broker, 2):
        task_id = await submit(fragile_broker, "hog", {"seconds": 4.0})
        task = await ended(fragile_broker, task_id)
        assert (task.state, task.deliveries, task.result) == (TaskState.COMPLETED, 2, b'"2"')

        async def is_refused() -> bool:
            return bool((await fragile_broker.inspection.stats()).get("stale"))

        await until(is_refused, "the refusal of the first outcome")
        assert await fragile_broker.inspection.get(task_id) == task


@pytest.mark.timeout(120)
async def test_a_handler_that_hangs_past_its_timeout(
    fragile_broker: Broker, fragile: Settings, tmp_path: Path
) -> None:
    """Its process is given up, the only one there is; other tasks are done, and in the end the
    hanging one is a dead letter, for it next runs where it can be killed."""
    async with crew_of(fragile, tmp_path, fragile_broker, 1):
        hanging = await submit(fragile_broker, "hang", max_retries=0)
        await reached(fragile_broker, hanging, TaskState.RUNNING)
        other = await submit(fragile_broker, "nap")
        task = await ended(fragile_broker, other, within_seconds=30)
        assert task.state is TaskState.COMPLETED
        task = await ended(fragile_broker, hanging, within_seconds=30)
        assert (task.state, task.lost_leases) == (TaskState.DEAD_LETTER, 1)
        assert "timed out after 1 s" in task.error


@handler("left", timeout=60)
async def left(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Run on one worker only."""
    return ctx.type


@handler("right", timeout=60)
async def right(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Run on the other one only."""
    return ctx.type


async def test_workers_with_different_plugins_on_one_queue(
    fragile_broker: Broker, fragile: Settings
) -> None:
    """Each task finds the worker that can run it at once; nothing fails, and no attempt is
    counted."""
    async with at_work(fragile, left, name="left"), at_work(fragile, right, name="right"):
        ids = [await submit(fragile_broker, kind) for _ in range(3) for kind in ("left", "right")]
        tasks = [await ended(fragile_broker, task_id, within_seconds=2) for task_id in ids]
    assert {(task.type, task.worker_id, task.attempts) for task in tasks} == {
        ("left", "left", 1),
        ("right", "right", 1),
    }
    # Called for a task, a worker may find others before it, and the wrong one be quicker once more.
    assert max(task.deliveries for task in tasks) <= 3
    assert {task.state for task in tasks} == {TaskState.COMPLETED}


async def test_a_queue_that_nobody_serves(fragile_broker: Broker, fragile: Settings) -> None:
    """Its tasks wait, whole and untouched, until somebody does."""
    only = fragile.worker.model_copy(update={"queues": ("default",)})
    async with at_work(fragile.model_copy(update={"worker": only}), left, name="choosy"):
        waiting = await submit(fragile_broker, "left", queue="other")
        await ended(fragile_broker, await submit(fragile_broker, "left"))
        task = await fragile_broker.inspection.get(waiting)
        assert (task.state, task.deliveries) == (TaskState.PENDING, 0)
        async with at_work(fragile, left, name="open"):
            task = await ended(fragile_broker, waiting)
    assert (task.state, task.worker_id, task.attempts) == (TaskState.COMPLETED, "open", 1)
