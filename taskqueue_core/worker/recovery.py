"""Take over tasks whose worker is gone, and remove such workers. No leader, no lock.

A worker with more than enough to do looks as well: the next slot that comes free is recovery's, or
a lost task would wait until there is nothing else left to do.
"""

from __future__ import annotations

import time
from typing import Final

from taskqueue_core.broker import BATCH, Broker, WorkerSession
from taskqueue_core.models import Delivery
from taskqueue_core.worker.fetcher import Desk, Fetcher

#: Seconds between looks; with it a lost task runs again within lease + 2 s.
INTERVAL_SECONDS: Final = 1.0


class Recovery:
    """The recovery loop of one worker process in one partition."""

    def __init__(
        self,
        broker: Broker,
        session: WorkerSession,
        fetcher: Fetcher,
        desk: Desk,
        *,
        lease_seconds: float,
    ) -> None:
        self._broker = broker
        self._session = session
        self._fetcher = fetcher
        self._desk = desk
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
        if not fetcher.is_open or fetcher.is_paused:
            return INTERVAL_SECONDS
        wanted = fetcher.reserve(BATCH) or await fetcher.reserve_next(INTERVAL_SECONDS)
        if not wanted:
            return 0.0
        taken: list[Delivery] = []
        asked_at = time.monotonic()
        try:
            recovered = await self._session.recover(wanted, streams=fetcher.streams)
            # After a long wait they may be somebody else's again: the heartbeat gives them back.
            if time.monotonic() - asked_at <= fetcher.trust_seconds:
                taken = recovered.deliveries
        finally:
            fetcher.give_back(wanted - len(taken))
        for delivery in taken:
            self._desk.start(delivery)
        for worker_id in recovered.expired_workers:
            await self._broker.expel(worker_id, self._session.keys.partition)
        # As many as were asked for: there may be more.
        return 0.0 if len(taken) == wanted else INTERVAL_SECONDS
