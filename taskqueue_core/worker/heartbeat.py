"""Keep the worker's registration and leases alive, from a thread with a loop of its own.

A handler may block the event loop for longer than a lease; this thread goes on meanwhile. It
shares no connection with the loop, reads the table of running deliveries, and hands what the
broker says back to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from taskqueue_core.broker import BATCH, Beat, Broker, WorkerSession, open_broker
from taskqueue_core.errors import BrokerError, BrokerFullError, BrokerUnavailableError
from taskqueue_core.models import Delivery, LeaseStatus
from taskqueue_core.settings import Settings
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.loop import Backoff, run_loop
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.running import Running


@dataclass(frozen=True, slots=True)
class Answer:
    """The broker's answer to a heartbeat that was sent at ``asked_at``, by ``time.monotonic``."""

    beat: Beat
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatCalls:
    """What the heartbeat tells the worker; called on the thread, so each must only post.

    ``hung`` alone must act at once: the loop that it would be posted to does not run any more.
    """

    beat: Callable[[Answer], None]
    lost: Callable[[list[Delivery]], None]
    cancelled: Callable[[list[Delivery]], None]
    failed: Callable[[Exception], None]
    hung: Callable[[], None]


class Heartbeat:
    """The heartbeat of one worker in one partition."""

    def __init__(
        self,
        settings: Settings,
        executor: Executor,
        measurements: Measurements,
        *,
        types: list[str],
        calls: HeartbeatCalls,
    ) -> None:
        self.streams: Sequence[str] = ()
        self._interval = settings.worker.heartbeat_interval_seconds
        self._executor = executor
        self._measurements = measurements
        self._types = types
        self._calls = calls
        self._request = 0
        self._counters: dict[str, int] | None = None
        self._given_up: set[Running] = set()

    async def run_once(self, session: WorkerSession) -> float:
        """Beat once; the seconds until the next beat."""
        self._look_for_hang()
        try:
            await self._beat(session)
        except BrokerError as error:
            self._calls.failed(error)
            raise
        return self._interval

    def _look_for_hang(self) -> None:
        """Find deliveries that the executor itself should have given up since the last look.

        It did not, so its event loop stands still: none of this worker's tasks will ever end.
        """
        given_up = {one for one in list(self._executor.running.values()) if not one.is_renewed}
        if given_up & self._given_up:
            self._calls.hung()
        self._given_up = given_up

    async def _beat(self, session: WorkerSession) -> None:
        partition = session.keys.partition
        running = [
            one
            for one in list(self._executor.running.values())
            if one.delivery.partition == partition
        ]
        held = [one.delivery for one in running if one.is_renewed]
        # What is not renewed any more must not be taken for forgotten: its lease has to run out,
        # and count as lost, or a task that hangs every worker would go round for ever.
        streams = self.streams if len(held) == len(running) else ()
        lost: list[Delivery] = []
        cancelled: list[Delivery] = []
        chunks = [held[at : at + BATCH] for at in range(0, len(held), BATCH)] or [[]]
        for chunk in chunks[:-1]:
            answer = await self._send(session, chunk, [])
            lost += _with(LeaseStatus.LOST, chunk, answer.beat)
            cancelled += _with(LeaseStatus.CANCEL_REQUESTED, chunk, answer.beat)
        # The last call also gives back what was handed to this worker in answers it never saw.
        answer = await self._send_last(session, chunks[-1], streams)
        lost += _with(LeaseStatus.LOST, chunks[-1], answer.beat)
        cancelled += _with(LeaseStatus.CANCEL_REQUESTED, chunks[-1], answer.beat)
        if lost:
            self._calls.lost(lost)
        if cancelled:
            self._calls.cancelled(cancelled)
        self._calls.beat(answer)

    async def _send_last(
        self, session: WorkerSession, held: list[Delivery], streams: Sequence[str]
    ) -> Answer:
        try:
            return await self._send(session, held, streams)
        except (BrokerUnavailableError, BrokerFullError):
            raise
        except BrokerError as error:
            # One broken task in the streams must not cost this worker the leases of the others.
            self._calls.failed(error)
            return await self._send(session, held, [])

    async def _send(
        self, session: WorkerSession, held: list[Delivery], streams: Sequence[str]
    ) -> Answer:
        # A call that is repeated carries the same counters: the broker counts them once.
        if self._counters is None:
            self._counters = self._measurements.take()
        asked_at = time.monotonic()
        beat = await session.heartbeat(
            request=self._request,
            held=held,
            active=self._executor.active(),
            types=self._types,
            counters=self._counters,
            rates=(*self._measurements.rates(), *self._measurements.slot_seconds()),
            forgotten_ms=round(2 * self._interval * 1000),
            streams=streams,
        )
        self._request += 1
        if beat.is_known:
            self._counters = None
        return Answer(beat, asked_at)


def _with(wanted: LeaseStatus, held: list[Delivery], beat: Beat) -> list[Delivery]:
    if not beat.is_known:
        return []
    pairs = zip(held, beat.statuses, strict=True)
    return [delivery for delivery, status in pairs if status is wanted]


class HeartbeatThread:
    """The thread that runs the heartbeats of all partitions; ``stop`` ends it within a moment.

    Each beats by itself: a partition that does not answer does not cost the others their leases.
    """

    def __init__(
        self,
        settings: Settings,
        heartbeats: Sequence[Heartbeat],
        make_session: Callable[[Broker, int], WorkerSession],
        backoffs: Sequence[Backoff],
    ) -> None:
        self._settings = settings
        self._heartbeats = heartbeats
        self._make_session = make_session
        self._backoffs = backoffs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="taskqueue-heartbeat", daemon=True)

    def start(self) -> None:
        """Start beating; the first beat goes out at once."""
        self._thread.start()
        self._is_ready.wait()

    async def stop(self) -> None:
        """End the thread, also in the middle of a call; do so when nothing is held any more."""
        if self._loop and self._task:
            # The loop is closed when the thread has ended by itself.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
            await asyncio.to_thread(self._thread.join, 5.0)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 (a thread boundary: nobody else would say it)
            structlog.get_logger("taskqueue.worker").error("heartbeat ended", exc_info=error)
        finally:
            self._is_ready.set()

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._is_ready.set()
        broker = open_broker(self._settings)
        try:
            async with asyncio.TaskGroup() as beats:
                for partition, heartbeat in enumerate(self._heartbeats):
                    beats.create_task(self._repeat(heartbeat, broker, partition))
        finally:
            await broker.close()

    async def _repeat(self, heartbeat: Heartbeat, broker: Broker, partition: int) -> None:
        session = self._make_session(broker, partition)
        backoff = self._backoffs[partition]
        await run_loop(lambda: heartbeat.run_once(session), backoff, asyncio.Event())
