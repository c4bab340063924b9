"""What can be done to all tasks of one priority at once, in every queue and partition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from taskqueue_core.broker.clients import together
from taskqueue_core.broker.inspection import Inspection
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.broker.search import STEP
from taskqueue_core.keys import Keys
from taskqueue_core.models import Priority


class Priorities:
    """The priorities of one namespace. Each call may be repeated when a partition was away."""

    def __init__(
        self, inspection: Inspection, scripts: Scripts, partitions: Sequence[Keys]
    ) -> None:
        self._inspection = inspection
        self._scripts = scripts
        self._partitions = partitions

    async def pause(self, priority: Priority) -> None:
        """Have no task of a priority start, from this moment on; those that run go on.

        Raises:
            BrokerUnavailableError: a partition is away; the others are paused.
        """
        await self._set_paused(priority, 1)

    async def resume(self, priority: Priority) -> None:
        """Let tasks of a paused priority start again, at once; raises as ``pause`` does."""
        await self._set_paused(priority, 0)

    async def _set_paused(self, priority: Priority, paused: int) -> None:
        call = self._scripts.call
        arguments = [int(priority), paused]
        await together(
            [partial(call, "pause_priority", [keys.meta], arguments) for keys in self._partitions]
        )

    async def purge(self, priority: Priority) -> int:
        """Cancel the tasks that wait at a priority at this moment. The count."""

        async def sweep(keys: Keys) -> int:
            total = 0
            for queue in await self._inspection.queues(keys):
                start, before = b"-", ""
                while start:
                    start, cancelled, before = await self._scripts.call(
                        "purge",
                        [keys.meta, keys.stream(queue, priority)],
                        [start, before, 2 * STEP],
                    )
                    total += cancelled
            return total

        return sum(await together([partial(sweep, keys) for keys in self._partitions]))
