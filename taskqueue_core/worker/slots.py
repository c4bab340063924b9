"""The slots of a worker process: how many more tasks it may run, whatever partition they are of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """Free slots, shared by the fetchers of all partitions; ``on_free`` hear of returned ones."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._on_free: list[Callable[[], None]] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    def tell(self, on_free: Callable[[], None]) -> None:
        """Call ``on_free`` whenever slots come back."""
        self._on_free.append(on_free)

    def take(self, most: int) -> int:
        """Take up to ``most`` slots; how many."""
        taken = max(0, min(most, self.free))
        self.free -= taken
        return taken

    async def take_next(self, within_seconds: float) -> int:
        """Take the next slot that comes back, before all who only hear of it; 0 without one."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await asyncio.wait([waiting], timeout=within_seconds)
        except asyncio.CancelledError:
            if waiting.done():
                self.give(1)
            else:
                self._waiting.remove(waiting)
            raise
        if waiting.done():
            return 1
        self._waiting.remove(waiting)
        return 0

    def give(self, number: int) -> None:
        """Return slots."""
        self.free += number
        while self._waiting and self.free > 0:
            self.free -= 1
            self._waiting.popleft().set_result(None)
        if number:
            for call in self._on_free:
                call()
