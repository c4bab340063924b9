"""Keep the worker's registration and leases alive, from a thread with a loop of its own.

A handler may block the event loop for longer than a lease; this thread goes on meanwhile. It
shares no connection with the loop, reads the table of running deliveries, and hands what the
broker says back to the loop.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from taskqueue_core.broker import BATCH, Beat, Broker, WorkerSession, open_broker
from taskqueue_core.errors import BrokerError
from taskqueue_core.models import Delivery, LeaseStatus
from taskqueue_core.settings import Settings
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.loop import Backoff, run_loop
from taskqueue_core.worker.measurements import Measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatCalls:
    """What the heartbeat tells the worker; called on the thread, so each must only post."""

    beat: Callable[[Beat], None]
    lost: Callable[[list[Delivery]], None]
    failed: Callable[[Exception], None]


class Heartbeat:
    """The heartbeat of one worker in all partitions."""

    def __init__(
        self,
        settings: Settings,
        executor: Executor,
        measurements: Measurements,
        *,
        types: list[str],
        calls: HeartbeatCalls,
    ) -> None:
        self.streams: dict[int, list[str]] = {}
        self._interval = settings.worker.heartbeat_interval_seconds
        self._executor = executor
        self._measurements = measurements
        self._types = types
        self._calls = calls
        self._request = 0
        self._pending: dict[str, int] = {}

    async def run_once(self, sessions: list[WorkerSession]) -> float:
        """Send one round of heartbeats; the seconds until the next."""
        for session in sessions:
            try:
                await self._beat(session)
            except BrokerError as error:
                self._calls.failed(error)
                raise
        return self._interval

    async def _beat(self, session: WorkerSession) -> None:
        partition = session.keys.partition
        held = [
            running.delivery
            for running in list(self._executor.running.values())
            if running.delivery.partition == partition and running.is_renewed
        ]
        lost: list[Delivery] = []
        chunks = [held[at : at + BATCH] for at in range(0, len(held), BATCH)] or [[]]
        for chunk in chunks[:-1]:
            beat = await self._send(session, chunk)
            lost += _lost(chunk, beat)
        # The last call also gives back what was handed to this worker in answers it never saw.
        beat = await self._send(session, chunks[-1], streams=self.streams.get(partition, []))
        lost += _lost(chunks[-1], beat)
        if lost:
            self._calls.lost(lost)
        self._calls.beat(beat)

    async def _send(
        self, session: WorkerSession, held: list[Delivery], streams: list[str] | None = None
    ) -> Beat:
        for name, increment in self._measurements.take().items():
            self._pending[name] = self._pending.get(name, 0) + increment
        counters = dict(self._pending)
        beat = await session.heartbeat(
            request=self._request,
            held=held,
            active=self._executor.active(),
            types=self._types,
            counters=counters,
            forgotten_ms=round(2 * self._interval * 1000),
            streams=streams or [],
        )
        self._request += 1
        for name, increment in counters.items():
            self._pending[name] -= increment
        self._pending = {name: left for name, left in self._pending.items() if left}
        return beat


def _lost(held: list[Delivery], beat: Beat) -> list[Delivery]:
    if not beat.is_known:
        return []
    pairs = zip(held, beat.statuses, strict=True)
    return [delivery for delivery, status in pairs if status is LeaseStatus.LOST]


class HeartbeatThread:
    """The thread that runs a ``Heartbeat``; ``stop`` ends it within a moment."""

    def __init__(
        self,
        settings: Settings,
        heartbeat: Heartbeat,
        make_sessions: Callable[[Broker], list[WorkerSession]],
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._make_sessions = make_sessions
        self._backoff = backoff
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="taskqueue-heartbeat", daemon=True)

    def start(self) -> None:
        """Start beating; the first beat goes out at once."""
        self._thread.start()
        self._is_ready.wait()

    async def stop(self) -> None:
        """End the thread; call it when nothing is held any more."""
        if self._loop and self._stopping:
            self._loop.call_soon_threadsafe(self._stopping.set)
            await asyncio.to_thread(self._thread.join, 5.0)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:  # noqa: BLE001 (a thread boundary: nobody else would say it)
            structlog.get_logger("taskqueue.worker").error("heartbeat ended", exc_info=error)
        finally:
            self._is_ready.set()

    async def _run(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._is_ready.set()
        broker = open_broker(self._settings)
        sessions = self._make_sessions(broker)
        try:
            await run_loop(
                lambda: self._heartbeat.run_once(sessions), self._backoff, self._stopping
            )
        finally:
            await broker.close()


def jittered(seconds: float, rng: random.Random) -> float:
    """Return ``seconds`` moved by up to a tenth, so that a fleet does not act in step."""
    return seconds * (0.9 + 0.2 * rng.random())
