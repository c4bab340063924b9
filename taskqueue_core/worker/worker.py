"""One worker process: what it is made of, and the order in which that starts and stops.

Start: reach the broker, register, heartbeat, then take tasks. Stop: take no more, let what runs
finish for ``worker.shutdowntimeout``, give the rest back, report everything, leave.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from taskqueue_core.broker import Beat, Broker, open_broker, open_redis
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import Delivery, Fetched, Outcome, OutcomeStatus
from taskqueue_core.plugin import PluginHost
from taskqueue_core.settings import Settings
from taskqueue_core.worker import control
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.fetcher import LANES, Fetcher
from taskqueue_core.worker.heartbeat import Heartbeat, HeartbeatCalls, HeartbeatThread
from taskqueue_core.worker.loop import Backoff, run_loop
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.recovery import Recovery
from taskqueue_core.worker.registration import Registration
from taskqueue_core.worker.retention import Retention
from taskqueue_core.worker.routing import Misrouted
from taskqueue_core.worker.scheduler import Scheduler

T = TypeVar("T")


class Worker:
    """A worker; ``run`` lives until ``stop`` is called and answers how many tasks were left."""

    def __init__(
        self, settings: Settings, host: PluginHost, *, worker_id: str, rng: random.Random
    ) -> None:
        self.worker_id = worker_id
        self.instance = f"{rng.getrandbits(48):012x}"
        self._settings = settings
        self._host = host
        self._rng = rng
        self._throttle = Throttle(3, time.monotonic)
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._has_beat = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._assemble(open_broker(settings))

    def _assemble(self, broker: Broker) -> None:
        settings = self._settings
        self._broker = broker
        self._session = broker.session(self.worker_id, self.instance)
        self._measurements = Measurements()
        self._executor = Executor(
            settings,
            self._host,
            self.worker_id,
            self._measurements,
            report=self._report,
            misrouted=self._put_aside,
            rng=self._rng,
        )
        self._misrouted = Misrouted(
            broker.inspection,
            self.worker_id,
            give_up_seconds=settings.queue.unhandled_timeout_seconds,
            report=self._report,
            throttle=self._throttle,
        )
        self._fetcher = Fetcher(
            self._session,
            self,
            slots=settings.worker.concurrency,
            backoffs=[self._backoff(f"fetcher {lane}") for lane in range(LANES)],
            on_answer=self._answered,
        )
        self._scheduler = Scheduler(broker, self._fetcher, 0)
        self._recovery = Recovery(
            broker,
            self._session,
            self._fetcher,
            self._executor,
            lease_seconds=settings.worker.lease_seconds,
        )
        self._blocking = open_redis(settings, blocks_seconds=control.BLOCK_SECONDS)
        self._registration = Registration(
            self._session,
            broker.inspection,
            settings.worker,
            self._host.infos(),
            on_queues=self._serve,
            throttle=self._throttle,
        )
        self._bell = control.Bell(self._blocking, self._session, self._fetcher)
        self._control = control.Control(self._blocking, self._session, self._heard)
        self._heartbeat = Heartbeat(
            settings,
            self._executor,
            self._measurements,
            types=sorted(self._host.handlers),
            calls=HeartbeatCalls(
                beat=self._post(self._beat),
                lost=self._post(self._lost),
                failed=self._post(self._beat_failed),
            ),
        )
        self._heart = HeartbeatThread(
            settings,
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
        """Work until ``stop``; the number of tasks that were given back or are stuck."""
        self._loop = asyncio.get_running_loop()
        try:
            if not await self._begin():
                return 0
            await self._stopping.wait()
            return await self._end()
        finally:
            await self._broker.close()
            await self._blocking.aclose()

    async def _begin(self) -> bool:
        await self._until_done(self._prepare)
        await self._until_done(self._registration.register)
        if self._stopping.is_set():
            return False
        self._heart.start()
        self._host.call("taskqueue_worker_started", worker_id=self.worker_id)
        for name, run_once in self._steps().items():
            coroutine = run_loop(run_once, self._backoff(name), self._stopping)
            self._loops.append(asyncio.create_task(coroutine, name=name))
        # The first heartbeat names the types, under which everything after it is counted.
        await self._until_done(self._first_beat)
        self._fetcher.open()
        self._log.info(
            "worker started",
            concurrency=self._settings.worker.concurrency,
            types=sorted(self._host.handlers),
        )
        return True

    def _steps(self) -> dict[str, Callable[[], Awaitable[float]]]:
        return {
            "scheduler": self._scheduler.run_once,
            "recovery": self._recovery.run_once,
            "retention": Retention(self._broker, self._rng).run_once,
            "control": self._control.run_once,
            "bell": self._bell.run_once,
            "registration": self._registration.run_once,
        }

    async def _end(self) -> int:
        """Stop in order: no new tasks, finish or give back, report, leave."""
        self._fetcher.close()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._quietly(self._session.stop())
        await self._finish_running()
        released = self._executor.release_all()
        try:
            async with asyncio.timeout(5.0):
                await self._fetcher.drained()
        except TimeoutError:
            self._log.warning("the broker did not take the last outcomes; their leases run out")
            await self._fetcher.abort()
        await self._heart.stop()
        await self._quietly(self._session.deregister())
        self._executor.close()
        self._host.call("taskqueue_worker_stopped", worker_id=self.worker_id)
        self._log.info("worker stopped", released=released, stuck=self._executor.stuck)
        return released + self._executor.stuck

    async def _finish_running(self) -> None:
        active = self._executor.active()
        if active:
            self._log.info("finishing tasks", active=active)
        deadline = time.monotonic() + self._settings.worker.shutdown_timeout_seconds
        while self._executor.active() and time.monotonic() < deadline:
            if self._hurry.is_set():
                return
            try:
                async with asyncio.timeout(0.05):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _quietly(self, call: Awaitable[object]) -> None:
        """Await a farewell; without a broker there is nobody to say it to."""
        try:
            async with asyncio.timeout(3.0):
                await call
        except (BrokerUnavailableError, TimeoutError) as error:
            self._log.warning("the broker did not hear that this worker leaves", error=str(error))

    async def _until_done(self, step: Callable[[], Awaitable[bool]]) -> None:
        backoff = self._backoff("start")
        while not self._stopping.is_set():
            try:
                if await step():
                    return
            except BrokerUnavailableError as error:
                await backoff.failed(error)

    async def _first_beat(self) -> bool:
        try:
            async with asyncio.timeout(0.5):
                await self._has_beat.wait()
        except TimeoutError:
            return False
        return True

    async def _prepare(self) -> bool:
        await self._broker.prepare()
        return True

    def _serve(self, queues: Sequence[str]) -> None:
        """Serve these queues from now on, critical tasks of all of them first."""
        keys = self._session.keys
        streams = [keys.stream(queue, priority) for priority in (3, 2, 1, 0) for queue in queues]
        self._bell.queues = list(queues)
        self._fetcher.streams = streams
        self._heartbeat.streams = {keys.partition: streams}
        self._fetcher.wake()

    def _answered(self, fetched: Fetched) -> None:
        self._scheduler.next_due(fetched.next_due_ms)
        self._fetcher.is_paused = fetched.is_paused
        if not fetched.is_known:
            self._registration.lost()
        self._registration.saw_version(fetched.queues_version)

    def _report(self, outcome: Outcome) -> None:
        self._fetcher.report(outcome)

    def _put_aside(self, delivery: Delivery) -> None:
        self._misrouted.take(delivery)

    # Desk of the fetcher

    def start(self, delivery: Delivery) -> None:
        """Run a delivery."""
        self._executor.start(delivery)

    def settled(self, outcome: Outcome, status: OutcomeStatus) -> None:
        """Take note of the broker's answer to an outcome."""
        self._executor.settled(outcome)
        if status is OutcomeStatus.STALE and self._throttle.allow("stale"):
            self._log.warning(
                "outcome refused: the task was given to another worker",
                task_id=outcome.delivery.digits,
            )

    # What arrives on other threads and connections

    def _post(self, call: Callable[[T], None]) -> Callable[[T], None]:
        """Return ``call`` as something another thread may call: it runs on the loop."""
        return lambda value: self._post_now(call, value)

    def _post_now(self, call: Callable[[T], None], value: T) -> None:
        loop = self._loop
        if loop and not loop.is_closed():
            loop.call_soon_threadsafe(call, value)

    def _beat(self, beat: Beat) -> None:
        if not beat.is_known:
            self._registration.lost()
            return
        self._has_beat.set()
        self._recovery.beat_answered()
        self._set_paused(is_paused=beat.is_paused)

    def _beat_failed(self, _: Exception) -> None:
        self._recovery.broker_lost()

    def _lost(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._executor.lost(delivery)

    def _heard(self, message: str) -> None:
        if message in {"pause", "resume"}:
            self._set_paused(is_paused=message == "pause")

    def _set_paused(self, *, is_paused: bool) -> None:
        if self._fetcher.is_paused != is_paused:
            self._log.info("worker paused" if is_paused else "worker resumed")
            self._fetcher.is_paused = is_paused
            if not is_paused:
                self._fetcher.wake()

    def _backoff(self, name: str) -> Backoff:
        return Backoff(name, self._throttle, self._rng)
