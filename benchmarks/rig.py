"""What is measured: a broker of its own, and real worker and server processes on it.

The broker is the embedded one as a newcomer gets it, append-only file included, in a temporary
directory. Each measurement has a namespace of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from redis.exceptions import RedisError

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.config import child_environ
from taskqueue_core.models import NewTask, Submitted
from taskqueue_core.processes import PARENT_PIPE_VARIABLE, bind_listener
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings

WORKER_ID = "bench-worker"

#: Longest wait for anything, in seconds.
PATIENCE_SECONDS = 120
#: High enough that no limit is what is measured.
NO_LIMIT = 100_000_000


class BenchError(Exception):
    """Raised when a figure would be wrong: something failed, or did not end in time."""


class Rig:
    """The broker of a run, and ways to start processes on it."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._url = url

    def settings(
        self, namespace: str, *, concurrency: int = 10, retention_seconds: float = 7 * 86_400
    ) -> Settings:
        """Return the default settings but for what is named, and limits out of the way."""
        return Settings(
            log_level="warning",
            redis=RedisSettings(url=self._url),
            worker=WorkerSettings(id=WORKER_ID, concurrency=concurrency),
            queue=QueueSettings(
                namespace=namespace,
                max_queue_size=NO_LIMIT,
                rate_limit_rps=NO_LIMIT,
                task_retention_days=retention_seconds / 86_400,
            ),
        )

    @asynccontextmanager
    async def broker(self, settings: Settings, *, clears: bool = True) -> AsyncIterator[Broker]:
        """Yield a connected broker; with ``clears`` its namespace is deleted afterwards."""
        broker = open_broker(settings)
        await broker.prepare()
        try:
            yield broker
        finally:
            if clears:
                await clear(broker)
            await broker.close()

    @asynccontextmanager
    async def worker(
        self, broker: Broker, *, python_path: Sequence[Path] = ()
    ) -> AsyncIterator[int]:
        """Yield the pid of a registered worker, the very process ``taskqueue-worker`` is."""
        environment = child_environ(broker.settings, os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(map(str, python_path))
        with self._process(["-m", "taskqueue_core.worker"], environment) as process:

            async def is_registered() -> bool:
                return bool(await broker.inspection.workers())

            await until(is_registered, "no worker registered", process)
            yield process.pid

    @contextmanager
    def server(self, settings: Settings) -> Iterator[tuple[int, int]]:
        """Yield (pid, port) of one server process, started as ``taskqueue-server`` does."""
        environment = child_environ(settings, os.environ)
        with bind_listener("127.0.0.1", 0) as listener:
            descriptor = listener.fileno()
            arguments = ["-m", "taskqueue_server.serving", str(descriptor)]
            with self._process(arguments, environment, (descriptor,)) as process:
                yield process.pid, listener.getsockname()[1]

    @contextmanager
    def _process(
        self, arguments: list[str], environment: dict[str, str], descriptors: Sequence[int] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        # Whatever way this process goes, the other one notices the end of the pipe and follows.
        reading, writing = os.pipe()
        with (self._directory / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**environment, PARENT_PIPE_VARIABLE: str(reading)},
                stderr=log,
                pass_fds=(*descriptors, reading),
                start_new_session=True,
            )
        os.close(reading)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(writing)


async def until(
    is_so: Callable[[], Awaitable[bool]],
    problem: str,
    process: subprocess.Popen[bytes] | None = None,
) -> None:
    """Ask every 5 ms until the answer is yes; raises BenchError when it never is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await is_so():
        if process is not None and process.poll() is not None:
            raise BenchError(f"{problem}: its process ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise BenchError(f"{problem} in {PATIENCE_SECONDS} s")
        await asyncio.sleep(0.005)


async def submit(broker: Broker, count: int, task_type: str = "echo") -> None:
    """Submit so many minimal tasks, 100 a call; all of them must be accepted."""
    for start in range(0, count, 100):
        tasks = [
            NewTask(id=broker.new_task_id(), type=task_type) for _ in range(min(100, count - start))
        ]
        await submit_tasks(broker, tasks)


async def submit_tasks(broker: Broker, tasks: Sequence[NewTask]) -> list[Submitted]:
    """Submit tasks, all of which must be accepted."""
    accepted = []
    for answer in await broker.submit_many(tasks):
        if isinstance(answer, Exception):
            raise BenchError(f"a task was refused: {answer}")
        accepted.append(answer)
    return accepted


async def backlog(broker: Broker) -> int:
    """Return the number of unfinished tasks, at the price of one small command."""
    reply = await broker.redis.hget(broker.partitions[0].stats, "backlog")
    return int(reply or 0)


async def run_to_the_end(broker: Broker) -> None:
    """Wait until no task is left to run."""

    async def is_done() -> bool:
        return await backlog(broker) == 0

    await until(is_done, "the tasks were not done")


async def broker_cpu_seconds(broker: Broker) -> float:
    """Return the processor time of the broker so far."""
    info = await broker.redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def task_memory_bytes(broker: Broker) -> int:
    """Return the memory of the broker without the namespace's event stream, which has a cap."""
    used = int((await broker.redis.info("memory"))["used_memory"])
    events = await broker.redis.memory_usage(broker.partitions[0].events, samples=0)
    return used - int(events or 0)


async def key_names(broker: Broker) -> set[str]:
    """Return the names of the namespace's keys without their prefix, the event stream apart."""
    prefix = broker.partitions[0].prefix
    found = set()
    async for key in broker.redis.scan_iter(prefix + "*", count=1_000):
        found.add(key.decode().removeprefix(prefix))
    return found - {"ev"}


async def clear(broker: Broker) -> None:
    """Delete what the namespace holds."""
    prefix = broker.partitions[0].prefix
    try:
        names = [key async for key in broker.redis.scan_iter(prefix + "*", count=1_000)]
        for start in range(0, len(names), 1_000):
            await broker.redis.unlink(*names[start : start + 1_000])
    except RedisError as error:
        raise BenchError(f"the broker is gone: {error}") from error
