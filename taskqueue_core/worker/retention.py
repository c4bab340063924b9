"""Delete ended tasks when their time is over."""

from __future__ import annotations

import random
from typing import Final

from taskqueue_core.broker import BATCH, Broker
from taskqueue_core.worker.loop import jittered

#: Seconds between looks when there was nothing more to delete.
INTERVAL_SECONDS: Final = 10.0


class Retention:
    """The retention loop; any number of workers may run it."""

    def __init__(self, broker: Broker, rng: random.Random) -> None:
        self._broker = broker
        self._rng = rng

    async def run_once(self) -> float:
        """Delete one step in every partition; no wait while there is more."""
        deleted = [await self._broker.retain(keys.partition) for keys in self._broker.partitions]
        return 0.001 if max(deleted) >= BATCH else jittered(INTERVAL_SECONDS, self._rng)
