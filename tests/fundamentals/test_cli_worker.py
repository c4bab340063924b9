"""From the shell: ``taskqueue-worker``, one process or several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
import redis

from taskqueue_core.broker import Broker, open_broker, with_url
from taskqueue_core.broker.embedded import find_live
from taskqueue_core.models import NewTask, WorkerState
from taskqueue_core.settings import Settings
from taskqueue_core.states import TERMINAL, TaskState

T = TypeVar("T")
COMMAND = [sys.executable, "-c", "from taskqueue_core.cli import worker_main; worker_main()"]


@contextmanager
def worker(place: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a worker that runs in a directory; it is killed afterwards."""
    environ = {name: value for name, value in os.environ.items() if "TASKQUEUE" not in name}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=place,
        env=environ | variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Stop a worker; return its exit code and what it logged."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    return process.returncode, log


async def eventually(look: Callable[[], Awaitable[T | None]]) -> T:
    """Return what ``look`` finds once it finds something."""
    with anyio.fail_after(30):
        while True:
            if (found := await look()) is not None:
                return found
            await anyio.sleep(0.02)


async def workers(broker: Broker, count: int) -> list[WorkerState]:
    """Return the live workers once there are so many."""

    async def look() -> list[WorkerState] | None:
        found = await broker.inspection.workers()
        return found if len(found) == count else None

    return await eventually(look)


async def end_of(broker: Broker, task_id: str) -> TaskState:
    """Return the state of a task once it has ended."""

    async def look() -> TaskState | None:
        state = (await broker.inspection.get(task_id)).state
        return state if state in TERMINAL else None

    return await eventually(look)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("flags", "ids"),
    [(["--id", "w"], ["w"]), (["--id", "w", "--processes", "2"], ["w-1", "w-2"])],
)
async def test_worker_runs_tasks(
    tmp_path: Path, broker: Broker, settings: Settings, flags: list[str], ids: list[str]
) -> None:
    """Flags say how many workers there are, what they are called and what they serve."""
    more = ["--redis-url", settings.redis.url, "--concurrency", "3", "--queues", "mail,default"]
    task = NewTask(id=broker.new_task_id(), type="echo", queue="mail")
    namespace = settings.queue.namespace
    with worker(tmp_path, *flags, *more, TASKQUEUE_QUEUE_NAMESPACE=namespace) as process:
        found = await workers(broker, len(ids))
        assert [one.id for one in found] == ids
        assert {one.concurrency for one in found} == {3}
        await broker.submit(task)
        assert await end_of(broker, task.id) is TaskState.COMPLETED
        code, log = finish(process)
    assert (code, log.count('"worker stopped"')) == (0, len(ids))
    assert await workers(broker, 0) == []


@pytest.mark.anyio
async def test_processes_share_one_embedded_broker(tmp_path: Path) -> None:
    """Without a Redis the parent brings the broker, which ends with it; ids are made up."""

    async def look() -> str | None:
        return find_live(tmp_path / "data")

    with worker(tmp_path, "--processes", "2", "--data-dir", "data") as process:
        broker = open_broker(with_url(Settings(), await eventually(look)))
        found = await workers(broker, 2)
        await broker.close()
        assert len({one.id for one in found}) == 2
        code, log = finish(process)
    assert (code, find_live(tmp_path / "data")) == (0, None)
    assert "started worker 2 (pid" in log
    assert "SIGTERM: stopping" in log


@pytest.mark.anyio
async def test_embedded_broker_that_dies_is_started_again(tmp_path: Path) -> None:
    """The parent of several workers looks after the broker that it started."""

    async def pid() -> int | None:
        url = find_live(tmp_path / "data")
        if url is None:
            return None
        try:
            with redis.Redis.from_url(url) as client:
                return int(client.info("server")["process_id"])
        except redis.ConnectionError:
            return None

    async def other_pid() -> int | None:
        found = await pid()
        return found if found != first else None

    with worker(tmp_path, "--processes", "2", "--data-dir", "data") as process:
        first = await eventually(pid)
        os.kill(first, signal.SIGKILL)
        assert await eventually(other_pid)
        assert process.poll() is None
        assert finish(process)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "0"], "worker.concurrency"),
        (["--processes", "0"], "worker.processes"),
        (["--queues", "no spaces"], "worker.queues"),
        (["--log-level", "loud"], "loglevel"),
        (["--config", "/nowhere/config.yaml"], "cannot be read"),
        (["--id", "w" * 64, "--processes", "2"], "worker.id is too long"),
    ],
)
def test_refused_settings(tmp_path: Path, arguments: list[str], message: str) -> None:
    """What cannot work stops the start with exit code 2 and a message, not a traceback."""
    with worker(tmp_path, "--redis-url", "redis://127.0.0.1:1", *arguments) as process:
        _, log = process.communicate(timeout=30)
    assert (process.returncode, message in log, "Traceback" in log) == (2, True, False)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_warnings_are_told_once(tmp_path: Path, processes: str) -> None:
    """A setting that means nothing any more is named once, however many processes there are."""
    (tmp_path / "config.yaml").write_text("queue: {blocktimeout: 5s}\n")
    with worker(tmp_path, "--processes", processes) as process:
        assert process.stderr is not None
        started = 0
        lines = []
        while started < int(processes):
            lines.append(process.stderr.readline())
            assert lines[-1], "the worker ended"
            started += '"worker started"' in lines[-1]
        code, log = finish(process)
    assert (code, ("".join(lines) + log).count("queue.blocktimeout")) == (0, 1)
