"""One worker as a process: settings in, signals, exit code out."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable

import structlog

from taskqueue_core.broker import located
from taskqueue_core.config import load_settings
from taskqueue_core.errors import TaskQueueError
from taskqueue_core.logs import configure_logging
from taskqueue_core.plugin import PluginHost
from taskqueue_core.processes import watch_parent
from taskqueue_core.settings import Settings
from taskqueue_core.worker.executor import THREADS
from taskqueue_core.worker.worker import Worker

#: Exit codes: everything was finished, tasks were left to others, the start was refused.
FINISHED, LEFT_TASKS, REFUSED = 0, 3, 2


def run_worker(settings: Settings) -> int:
    """Run one worker until SIGTERM or SIGINT and return its exit code.

    A second signal shortens the wait for running tasks.
    """
    configure_logging(settings.log_level)
    log = structlog.get_logger("taskqueue.worker")
    try:
        host = load_plugins(settings)
        with located(settings) as (found, embedded):
            log.info("using broker", embedded=embedded is not None)
            left, is_hanging = _run(found, host)
    except TaskQueueError as error:
        log.error("worker cannot run", error=str(error))  # noqa: TRY400 (the message is the help)
        return REFUSED
    except KeyboardInterrupt:
        # Before there was a worker that listens for it.
        return FINISHED
    if is_hanging or worker_threads_left():
        # Python would wait for them at exit, for ever if a handler hangs.
        _exit_now()
    return LEFT_TASKS if left else FINISHED


def load_plugins(settings: Settings) -> PluginHost:
    """Load the plugins that the settings allow, and say which ones failed."""
    plugins = settings.plugins
    host = PluginHost.load(disabled=plugins.disabled, prefer=plugins.prefer, strict=plugins.strict)
    log = structlog.get_logger("taskqueue.plugins")
    for record in host.records:
        if record.error:
            log.error("plugin failed", plugin=record.label, error=record.error)
    return host


def generated_id(rng: random.Random) -> str:
    """Return a worker id that is unique for each start and says where it runs."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:32]
    return f"worker-{host}-{os.getpid()}-{rng.getrandbits(24):06x}"


def _run(settings: Settings, host: PluginHost) -> tuple[int, bool]:
    """Run a worker; how many tasks it left, and whether handlers refuse to stop."""
    rng = random.SystemRandom()
    worker_id = settings.worker.id or generated_id(rng)

    async def serve() -> tuple[int, bool]:
        worker = Worker(
            settings,
            host,
            worker_id=worker_id,
            rng=random.Random(rng.random()),  # noqa: S311 (jitter and a name)
            on_hang=_exit_hung,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        # What was loaded until here lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        left = await worker.run()
        return left, worker.is_hanging

    is_hanging = False
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        left, is_hanging = runner.run(serve())
    finally:
        # To close it is to wait for every task, also for those that do not obey.
        if not is_hanging:
            runner.close()
    return left, is_hanging


def _exit_hung() -> None:
    structlog.get_logger("taskqueue.worker").critical(
        "a handler has blocked the event loop far beyond its timeout: this worker ends"
    )
    _exit_now()


def _exit_now() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LEFT_TASKS)


def worker_threads_left() -> bool:
    """Tell whether a handler's thread is still at work."""
    return any(thread.name.startswith(THREADS) for thread in threading.enumerate())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    """Run the worker of a supervised child: its settings come from the environment alone."""
    watch_parent()
    try:
        loaded = load_settings(environ=os.environ, search=())
    except TaskQueueError as error:
        sys.stderr.write(f"taskqueue-worker: {error}\n")
        return REFUSED
    return run_worker(loaded.settings)
