"""One worker process: what it is made of, and the order in which that starts and stops.

Start: reach the broker, register, heartbeat, then take tasks. Stop: take no more, let what runs
finish for ``worker.shutdowntimeout``, give the rest back, report everything, leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

from taskqueue_core.broker import close_redis, open_broker, open_redis
from taskqueue_core.errors import BrokerError, SchemaError, SettingsError, TaskQueueError
from taskqueue_core.keys import partition_of
from taskqueue_core.logs import Throttle
from taskqueue_core.models import Delivery, Outcome
from taskqueue_core.plugin import PluginHost, TaskContext
from taskqueue_core.settings import Settings
from taskqueue_core.worker import control
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.heartbeat import HeartbeatThread
from taskqueue_core.worker.loop import Backoff, run_loop, until_done
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.recycling import Recycling
from taskqueue_core.worker.retention import Retention
from taskqueue_core.worker.routing import Misrouted
from taskqueue_core.worker.section import Section, Shared
from taskqueue_core.worker.slots import Slots
from taskqueue_core.worker.subprocesses import Children
from taskqueue_core.worker.watchdog import Watchdog

T = TypeVar("T")

#: Most log lines a minute about trouble with the broker, and with what it says.
LINES_A_MINUTE: Final = 5
#: At the end: seconds for the broker to take the last outcomes, for a farewell to it, and for
#: handlers that were told to stop.
DRAIN_SECONDS: Final = 5.0
FAREWELL_SECONDS: Final = 3.0
HANDLER_SECONDS: Final = 1.0


def _nothing() -> None:
    pass


class Worker:
    """A worker; ``run`` lives until ``stop`` is called and answers how many tasks were left.

    ``on_hang`` is called on another thread once the event loop stands still for good: a handler
    blocks it, long past its timeout. With ``children``, handlers that want a process get one.
    """

    def __init__(
        self,
        settings: Settings,
        host: PluginHost,
        *,
        worker_id: str,
        rng: random.Random,
        on_hang: Callable[[], None] = _nothing,
        children: Children | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.instance = f"{rng.getrandbits(48):012x}"
        self.is_hanging = False
        self._settings = settings
        self._host = host
        self._rng = rng
        self._throttle = Throttle(3, time.monotonic, total=LINES_A_MINUTE)
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_refused = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fatal: TaskQueueError | None = None
        self._broker = open_broker(settings)
        self._blocking = open_redis(settings, blocks_seconds=control.BLOCK_SECONDS)
        self._measurements = Measurements(slots=settings.worker.concurrency)
        self._executor = Executor(
            settings,
            host,
            worker_id,
            self._measurements,
            report=self._report,
            misrouted=self._put_aside,
            rng=rng,
        )
        self.recycling = Recycling(
            worker_id, drain=self._drain, count_stuck=lambda: self._executor.stuck
        )
        self._executor.children, self._executor.on_stuck = children, self.recycling.stuck
        self._misrouted = Misrouted(
            self._broker.inspection,
            worker_id,
            give_up_seconds=settings.queue.unhandled_timeout_seconds,
            report=self._report,
            throttle=self._throttle,
        )
        self._retention = Retention(self._broker, rng)
        self._assemble_sections(on_hang)

    def _assemble_sections(self, on_hang: Callable[[], None]) -> None:
        shared = Shared(
            settings=self._settings,
            host=self._host,
            worker_id=self.worker_id,
            instance=self.instance,
            broker=self._broker,
            blocking=self._blocking,
            slots=Slots(self._settings.worker.concurrency),
            executor=self._executor,
            misrouted=self._misrouted,
            measurements=self._measurements,
            throttle=self._throttle,
            backoff=self._backoff,
            post=self._post,
            on_hang=on_hang,
        )
        sections = [Section(shared, keys.partition) for keys in self._broker.partitions]
        self._sections = sections
        self._executor.on_progress = self._note_progress
        first = sections[0]
        self._watchdog = Watchdog(
            self._settings,
            first.session,
            calls=(self._broker.redis, [section.fetcher for section in sections]),
            blocks=(
                self._blocking,
                [
                    *(section.control for section in sections),
                    *(section.bell for section in sections),
                ],
            ),
        )
        self._heart = HeartbeatThread(
            self._settings,
            [section.heartbeat for section in sections],
            lambda own, partition: own.session(self.worker_id, self.instance, partition),
            [self._backoff(f"heartbeat {section.partition}") for section in sections],
        )

    def _report(self, outcome: Outcome) -> None:
        self._sections[outcome.delivery.partition].desk.report(outcome)

    def _note_progress(self, context: TaskContext, fraction: float, message: str) -> None:
        self._sections[partition_of(context.id)].progress.note(context, fraction, message)

    def _put_aside(self, delivery: Delivery) -> None:
        self._misrouted.take(delivery)

    def stop(self) -> None:
        """Ask the worker to stop; asked again, it waits for nothing any more."""
        if not self.recycling.call_off() and self._stopping.is_set():
            self._hurry.set()
        self._drain()

    def _drain(self) -> None:
        self._stopping.set()
        for section in self._sections:
            section.fetcher.close()

    async def run(self) -> int:
        """Work until ``stop``; the number of tasks that were given back or are stuck.

        Raises:
            SettingsError: another live worker has this worker's id.
            SchemaError: the namespace belongs to other settings.
        """
        self._loop = asyncio.get_running_loop()
        try:
            for section in self._sections:
                await self._begin(section.registration.register)
            if self._stopping.is_set():
                await self._leave()
                return 0
            left = await self._work()
        finally:
            await self._broker.close()
            await close_redis(self._blocking)
        if self._fatal:
            raise self._fatal
        return left

    async def _work(self) -> int:
        self._heart.start()
        self._host.call("taskqueue_worker_started", worker_id=self.worker_id)
        # Until its last task has ended it is known, and hears that a client wants that one stopped.
        staying = [
            self._repeat(f"{name} {section.partition}", run_once, self._is_refused)
            for section in self._sections
            for name, run_once in (
                ("registration", partial(self._register_again, section)),
                ("control", section.control.run_once),
            )
        ]
        recovering = [
            self._repeat(
                f"recovery {section.partition}", section.desk.recovery.run_once, self._stopping
            )
            for section in self._sections
        ]
        loops = [
            self._repeat(name, run_once, self._stopping) for name, run_once in self._loops().items()
        ]
        # The first heartbeat names the types, under which everything after it is counted.
        await self._begin(self._first_beat)
        if not self._stopping.is_set():
            for section in self._sections:
                section.fetcher.open()
            slots, types = self._settings.worker.concurrency, sorted(self._host.handlers)
            self._log.info("worker started", concurrency=slots, types=types)
        await self._stopping.wait()
        await _end(loops)
        # What it has just taken over would lie there for a lease: it ends by itself, in a moment.
        await asyncio.wait(recovering, timeout=FAREWELL_SECONDS)
        left = await self._finish()
        await _end([*recovering, *staying])
        await self._heart.stop()
        await self._leave()
        self.is_hanging = await self._executor.stopped(HANDLER_SECONDS) > 0
        self._executor.close()
        self._host.call("taskqueue_worker_stopped", worker_id=self.worker_id)
        self._log.info("worker stopped", left=left)
        return left

    async def _finish(self) -> int:
        """Finish what runs or give it back, and report everything; how much was left undone."""
        for section in self._sections:
            await _quietly(section.session.stop(), self._log)
        if active := self._executor.active():
            self._log.info("finishing tasks", active=active)
            seconds = self._settings.worker.shutdown_timeout_seconds
            await _idle(self._executor, self._hurry, within_seconds=seconds)
        released = self._executor.release_all()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._misrouted.logged()
                for section in self._sections:
                    await section.fetcher.drained()
        except TimeoutError:
            self._log.warning("the broker did not take the last outcomes; their leases run out")
            for section in self._sections:
                await section.fetcher.abort()
        return released + self._executor.stuck

    async def _leave(self) -> None:
        for section in self._sections:
            await _quietly(section.session.deregister(), self._log)

    async def _begin(self, step: Callable[[], Awaitable[bool]]) -> None:
        await until_done(step, self._backoff("start"), self._stopping)

    async def _first_beat(self) -> bool:
        # In one partition is enough: another one may be away for long.
        beats = [asyncio.create_task(one.desk.has_beat.wait()) for one in self._sections]
        await asyncio.wait(beats, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        await _end(beats)
        return any(section.desk.has_beat.is_set() for section in self._sections)

    async def _register_again(self, section: Section) -> float:
        try:
            return await section.registration.run_once()
        except (SettingsError, SchemaError) as error:
            # Trying again would not help: finish what runs, then end with this.
            self._fatal = error
            self._is_refused.set()
            self.stop()
            return 0.0

    def _loops(self) -> dict[str, Callable[[], Awaitable[float]]]:
        loops: dict[str, Callable[[], Awaitable[float]]] = {
            "retention": self._retention.run_once,
            "watchdog": self._watchdog.run_once,
        }
        for section in self._sections:
            loops |= section.loops()
        return loops

    def _repeat(
        self, name: str, run_once: Callable[[], Awaitable[float]], is_stopping: asyncio.Event
    ) -> asyncio.Task[None]:
        return asyncio.create_task(run_loop(run_once, self._backoff(name), is_stopping), name=name)

    def _post(self, call: Callable[[T], None]) -> Callable[[T], None]:
        """Return ``call`` as something another thread may call: it runs on the loop."""

        def post(value: T) -> None:
            # The loop is closed when a beat outlives the worker.
            with contextlib.suppress(RuntimeError):
                if self._loop:
                    self._loop.call_soon_threadsafe(call, value)

        return post

    def _backoff(self, name: str) -> Backoff:
        return Backoff(name, self._throttle, self._rng)


async def _end(loops: Sequence[asyncio.Task[Any]]) -> None:
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


async def _idle(executor: Executor, hurry: asyncio.Event, *, within_seconds: float) -> None:
    """Wait until nothing is at work any more, or there is no more time for it."""
    deadline = time.monotonic() + within_seconds
    while executor.active() and time.monotonic() < deadline and not hurry.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await hurry.wait()


async def _quietly(call: Awaitable[object], log: FilteringBoundLogger) -> None:
    """Await a farewell; without a broker there is nobody to say it to."""
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await call
    except (BrokerError, TimeoutError) as error:
        log.warning("the broker did not hear that this worker leaves", error=str(error))
