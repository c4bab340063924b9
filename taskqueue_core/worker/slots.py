"""The slots of a worker process: how many more tasks it may run, whatever partition they are of."""

from __future__ import annotations

from collections.abc import Callable


class Slots:
    """Free slots, shared by the fetchers of all partitions; ``on_free`` hear of returned ones."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._on_free: list[Callable[[], None]] = []

    def tell(self, on_free: Callable[[], None]) -> None:
        """Call ``on_free`` whenever slots come back."""
        self._on_free.append(on_free)

    def take(self, most: int) -> int:
        """Take up to ``most`` slots; how many."""
        taken = max(0, min(most, self.free))
        self.free -= taken
        return taken

    def give(self, number: int) -> None:
        """Return slots."""
        self.free += number
        if number:
            for call in self._on_free:
                call()
