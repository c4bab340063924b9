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
from typing import Final, TypeVar

import structlog

from taskqueue_core.broker import open_broker, open_redis
from taskqueue_core.errors import BrokerError, SchemaError, SettingsError, TaskQueueError
from taskqueue_core.logs import Throttle
from taskqueue_core.plugin import PluginHost
from taskqueue_core.settings import Settings
from taskqueue_core.worker import control
from taskqueue_core.worker.desk import Desk
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.fetcher import LANES, Fetcher
from taskqueue_core.worker.heartbeat import Heartbeat, HeartbeatCalls, HeartbeatThread
from taskqueue_core.worker.loop import Backoff, run_loop, until_done
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.recovery import Recovery
from taskqueue_core.worker.registration import Registration
from taskqueue_core.worker.retention import Retention
from taskqueue_core.worker.routing import Misrouted
from taskqueue_core.worker.scheduler import Scheduler

T = TypeVar("T")

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
    blocks it, long past its timeout.
    """

    def __init__(
        self,
        settings: Settings,
        host: PluginHost,
        *,
        worker_id: str,
        rng: random.Random,
        on_hang: Callable[[], None] = _nothing,
    ) -> None:
        self.worker_id = worker_id
        self.instance = f"{rng.getrandbits(48):012x}"
        self.is_hanging = False
        self._settings = settings
        self._host = host
        self._rng = rng
        self._throttle = Throttle(3, time.monotonic)
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_refused = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fatal: TaskQueueError | None = None
        self._broker = open_broker(settings)
        self._blocking = open_redis(settings, blocks_seconds=control.BLOCK_SECONDS)
        self._session = self._broker.session(worker_id, self.instance)
        self._desk = Desk(worker_id, self._throttle)
        self._assemble_handlers()
        self._assemble_loops()
        self._assemble_heartbeat(on_hang)

    def _assemble_handlers(self) -> None:
        settings, desk = self._settings, self._desk
        self._measurements = Measurements()
        self._executor = desk.executor = Executor(
            settings,
            self._host,
            self.worker_id,
            self._measurements,
            report=desk.report,
            misrouted=desk.put_aside,
            rng=self._rng,
        )
        self._misrouted = desk.misrouted = Misrouted(
            self._broker.inspection,
            self.worker_id,
            give_up_seconds=settings.queue.unhandled_timeout_seconds,
            report=desk.report,
            throttle=self._throttle,
        )

    def _assemble_loops(self) -> None:
        settings, desk, session = self._settings.worker, self._desk, self._session
        self._fetcher = fetcher = desk.fetcher = Fetcher(
            session,
            desk,
            slots=settings.concurrency,
            backoffs=[self._backoff(f"fetcher {lane}") for lane in range(LANES)],
            # A heartbeat gives back what was handed out two intervals ago and is not named.
            trust_seconds=settings.heartbeat_interval_seconds,
        )
        desk.scheduler = Scheduler(self._broker, fetcher, 0)
        desk.recovery = Recovery(
            self._broker, session, fetcher, desk, lease_seconds=settings.lease_seconds
        )
        self._registration = desk.registration = Registration(
            self._broker,
            session,
            settings,
            self._host.infos(),
            on_queues=self._serve,
            throttle=self._throttle,
        )
        self._retention = Retention(self._broker, self._rng)
        self._control = control.Control(self._blocking, session, desk.heard)
        self._bell = control.Bell(self._blocking, session, fetcher, is_choosy=bool(settings.queues))

    def _assemble_heartbeat(self, on_hang: Callable[[], None]) -> None:
        desk = self._desk
        self._heartbeat = Heartbeat(
            self._settings,
            self._executor,
            self._measurements,
            types=sorted(self._host.handlers),
            calls=HeartbeatCalls(
                beat=self._post(desk.beat),
                lost=self._post(desk.lost),
                failed=self._post(desk.beat_failed),
                hung=on_hang,
            ),
        )
        self._heart = HeartbeatThread(
            self._settings,
            self._heartbeat,
            lambda own: [own.session(self.worker_id, self.instance)],
            self._backoff("heartbeat"),
        )

    def stop(self) -> None:
        """Ask the worker to stop; asked again, it waits for nothing any more."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self._fetcher.close()

    async def run(self) -> int:
        """Work until ``stop``; the number of tasks that were given back or are stuck.

        Raises:
            SettingsError: another live worker has this worker's id.
            SchemaError: the namespace belongs to other settings.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._begin(self._registration.register)
            if self._stopping.is_set():
                await self._quietly(self._session.deregister())
                return 0
            left = await self._work()
        finally:
            await self._broker.close()
            await self._blocking.aclose()
        if self._fatal:
            raise self._fatal
        return left

    async def _work(self) -> int:
        self._heart.start()
        self._host.call("taskqueue_worker_started", worker_id=self.worker_id)
        registering = self._repeat("registration", self._register_again, self._is_refused)
        recovering = self._repeat("recovery", self._desk.recovery.run_once, self._stopping)
        loops = [
            self._repeat(name, run_once, self._stopping)
            for name, run_once in {
                "scheduler": self._desk.scheduler.run_once,
                "retention": self._retention.run_once,
                "control": self._control.run_once,
                "bell": self._bell.run_once,
            }.items()
        ]
        # The first heartbeat names the types, under which everything after it is counted.
        await self._begin(self._first_beat)
        if not self._stopping.is_set():
            self._fetcher.open()
            self._log.info(
                "worker started",
                concurrency=self._settings.worker.concurrency,
                types=sorted(self._host.handlers),
            )
        await self._stopping.wait()
        await _end(loops)
        # What it has just taken over would lie there for a lease: it ends by itself, in a moment.
        await asyncio.wait([recovering], timeout=FAREWELL_SECONDS)
        left = await self._finish()
        await _end([recovering, registering])
        await self._heart.stop()
        await self._quietly(self._session.deregister())
        self.is_hanging = await self._executor.stopped(HANDLER_SECONDS) > 0
        self._executor.close()
        self._host.call("taskqueue_worker_stopped", worker_id=self.worker_id)
        self._log.info("worker stopped", left=left)
        return left

    async def _finish(self) -> int:
        """Finish what runs or give it back, and report everything; how much was left undone."""
        await self._quietly(self._session.stop())
        await self._finish_running()
        released = self._executor.release_all()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._misrouted.reported()
                await self._fetcher.drained()
        except TimeoutError:
            self._log.warning("the broker did not take the last outcomes; their leases run out")
            await self._fetcher.abort()
        return released + self._executor.stuck

    async def _finish_running(self) -> None:
        active = self._executor.active()
        if active:
            self._log.info("finishing tasks", active=active)
        deadline = time.monotonic() + self._settings.worker.shutdown_timeout_seconds
        while self._executor.active() and time.monotonic() < deadline:
            if self._hurry.is_set():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._hurry.wait()

    async def _quietly(self, call: Awaitable[object]) -> None:
        """Await a farewell; without a broker there is nobody to say it to."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await call
        except (BrokerError, TimeoutError) as error:
            self._log.warning("the broker did not hear that this worker leaves", error=str(error))

    async def _begin(self, step: Callable[[], Awaitable[bool]]) -> None:
        await until_done(step, self._backoff("start"), self._stopping)

    async def _first_beat(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._desk.has_beat.wait()
        return self._desk.has_beat.is_set()

    async def _register_again(self) -> float:
        try:
            return await self._registration.run_once()
        except (SettingsError, SchemaError) as error:
            # Trying again would not help: finish what runs, then end with this.
            self._fatal = error
            self._is_refused.set()
            self.stop()
            return 0.0

    def _serve(self, queues: Sequence[str]) -> None:
        """Serve these queues from now on, critical tasks of all of them first."""
        keys = self._session.keys
        streams = [keys.stream(queue, priority) for priority in (3, 2, 1, 0) for queue in queues]
        self._bell.serve(queues)
        self._fetcher.streams = streams
        self._heartbeat.streams = {keys.partition: streams}
        self._fetcher.wake()

    def _repeat(
        self, name: str, run_once: Callable[[], Awaitable[float]], is_stopping: asyncio.Event
    ) -> asyncio.Task[None]:
        coroutine = run_loop(run_once, self._backoff(name), is_stopping)
        return asyncio.create_task(coroutine, name=name)

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


async def _end(loops: list[asyncio.Task[None]]) -> None:
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
