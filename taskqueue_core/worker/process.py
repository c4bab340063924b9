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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from taskqueue_core.broker import located
from taskqueue_core.config import child_environ, load_settings
from taskqueue_core.errors import TaskQueueError
from taskqueue_core.logs import configure_logging
from taskqueue_core.plugin import PluginHost
from taskqueue_core.processes import watch_parent
from taskqueue_core.settings import Settings
from taskqueue_core.tracing import WORKER, exporting
from taskqueue_core.worker.subprocesses import Children
from taskqueue_core.worker.worker import Worker

#: Exit codes: everything was finished, tasks were left to others, the start was refused, the
#: process is spent and wants to be started again.
FINISHED, LEFT_TASKS, REFUSED, SPENT = 0, 3, 2, 4

#: A worker that needs nothing but its environment.
COMMAND: Final = (sys.executable, "-m", "taskqueue_core.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a worker ended: tasks it left, and whether its process is hung or spent."""

    left: int
    is_hanging: bool
    is_spent: bool


def run_worker(settings: Settings, *, is_supervised: bool = False) -> int:
    """Run one worker until SIGTERM or SIGINT and return its exit code.

    A second signal shortens the wait for running tasks. When handlers do not stop, the process is
    replaced: by whoever supervises it, told so by the exit code ``SPENT``, or else by itself, and
    this function does not return. That is left to the caller, too, when an embedded broker was
    started here, for it would end with the process.
    """
    configure_logging(settings.log_level)
    log = structlog.get_logger("taskqueue.worker")
    try:
        host = load_plugins(settings)
        with located(settings) as (found, embedded):
            log.info("using broker", embedded=embedded is not None)
            is_replaceable = not is_supervised and not (embedded and embedded.is_owner)
            with exporting(WORKER, enabled=found.tracing.enabled):
                end = _run(found, host, _replace if is_replaceable else _give_up)
            if end.is_spent and is_replaceable:
                _replace(found)
    except TaskQueueError as error:
        log.error("worker cannot run", error=str(error))  # noqa: TRY400 (the message is the help)
        return REFUSED
    except KeyboardInterrupt:
        # Before there was a worker that listens for it.
        return FINISHED
    code = SPENT if end.is_spent else LEFT_TASKS if end.left else FINISHED
    if end.is_hanging:
        # Python would wait for its threads at exit, for ever if a handler hangs.
        _exit_now(code)
    return code


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


def _run(settings: Settings, host: PluginHost, replace: Callable[[Settings], NoReturn]) -> _End:
    """Run a worker; ``replace`` is called when its event loop hangs for good."""
    rng = random.SystemRandom()
    worker_id = settings.worker.id or generated_id(rng)

    async def serve() -> _End:
        worker = Worker(
            settings,
            host,
            worker_id=worker_id,
            rng=random.Random(rng.random()),  # noqa: S311 (jitter and a name)
            on_hang=lambda: _hung(settings, replace),
            children=Children(settings),
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        # What was loaded until here lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        left = await worker.run()
        return _End(left=left, is_hanging=worker.is_hanging, is_spent=worker.recycling.is_due)

    end: _End | None = None
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        end = runner.run(serve())
    finally:
        # To close it is to wait for every task, also for those that do not obey.
        if end is None or not end.is_hanging:
            runner.close()
    return end


def _hung(settings: Settings, replace: Callable[[Settings], NoReturn]) -> NoReturn:
    structlog.get_logger("taskqueue.worker").critical(
        "a handler has blocked the event loop far beyond its timeout: this worker ends"
    )
    replace(settings)


def _replace(settings: Settings) -> NoReturn:
    """Become a fresh worker with the same settings, process id and standing with its parent."""
    structlog.get_logger("taskqueue.worker").info("starting again in place")
    _flush()
    try:
        os.execve(COMMAND[0], COMMAND, child_environ(settings, os.environ))  # noqa: S606 (our own)
    except OSError as error:
        # The interpreter was taken away meanwhile, by an upgrade for one.
        structlog.get_logger("taskqueue.worker").critical("cannot start again", error=str(error))
        _exit_now(SPENT)


def _give_up(_: Settings) -> NoReturn:
    _exit_now(SPENT)


def _exit_now(code: int) -> NoReturn:
    _flush()
    os._exit(code)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    """Run the worker of a supervised child: its settings come from the environment alone."""
    is_supervised = watch_parent()
    try:
        loaded = load_settings(environ=os.environ, search=())
    except TaskQueueError as error:
        sys.stderr.write(f"taskqueue-worker: {error}\n")
        return REFUSED
    return run_worker(loaded.settings, is_supervised=is_supervised)
