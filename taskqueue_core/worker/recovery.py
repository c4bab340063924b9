"""Take over tasks whose worker is gone, and remove such workers. No leader, no lock."""

from __future__ import annotations

import time
from typing import Final

from taskqueue_core.broker import BATCH, Broker, WorkerSession
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.fetcher import Fetcher

#: Seconds between looks; with it a lost task runs again within lease + 2 s.
INTERVAL_SECONDS: Final = 1.0


class Recovery:
    """The recovery loop of one worker process in one partition."""

    def __init__(
        self,
        broker: Broker,
        session: WorkerSession,
        fetcher: Fetcher,
        executor: Executor,
        *,
        lease_seconds: float,
    ) -> None:
        self._broker = broker
        self._session = session
        self._fetcher = fetcher
        self._executor = executor
        self._patience = lease_seconds / 3
        self._since: float | None = None

    def beat_answered(self) -> None:
        """Note that the broker knows of this worker: only then may it judge others."""
        if self._since is None:
            self._since = time.monotonic()

    def broker_lost(self) -> None:
        """Note an outage: every lease has aged, so wait again before taking anything over."""
        self._since = None

    async def run_once(self) -> float:
        """Look once; the seconds until the next look."""
        if self._since is None or time.monotonic() < self._since + self._patience:
            return INTERVAL_SECONDS
        fetcher = self._fetcher
        if not fetcher.can_take:
            return INTERVAL_SECONDS
        wanted = min(fetcher.free, BATCH)
        fetcher.free -= wanted
        taken = 0
        try:
            recovered = await self._session.recover(wanted, streams=fetcher.streams)
            taken = len(recovered.deliveries)
        finally:
            fetcher.free += wanted - taken
        for delivery in recovered.deliveries:
            self._executor.start(delivery)
        for worker_id in recovered.expired_workers:
            await self._broker.expel(worker_id, self._session.keys.partition)
        return INTERVAL_SECONDS
