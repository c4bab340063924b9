"""Wait for the end of a task, without asking for it again and again.

The events of the task say when; as one of them may be lost, the task is looked at every few
seconds all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from taskqueue_core.events import Event
from taskqueue_core.models import Task
from taskqueue_core.states import TERMINAL

#: Most requests that wait at once in one process.
MAX_WAITERS: Final = 1_000
#: Seconds between two looks at a task without an event of it; half as much more by chance.
POLL_SECONDS: Final = 2.0


class Waiter:
    """One who waits for the end of a task; ``is_over`` once nobody shall wait any more."""

    def __init__(self) -> None:
        self.is_over = False
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Wake it: the task has ended."""
        self._told.set()

    def prepare(self) -> None:
        """Forget what it was told; what comes from now on ends the next ``wait``."""
        self._told.clear()

    async def wait(self, seconds: float) -> None:
        """Wait until it is told something, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()


class Waiters:
    """Those who wait for the end of tasks, by task; at most ``most`` at once."""

    def __init__(self, most: int = MAX_WAITERS) -> None:
        self._most = most
        self._waiting: dict[str, list[Waiter]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, task_id: str) -> Waiter | None:
        """Return one who is told when an event says that the task has ended, ``None`` when full."""
        if self._count >= self._most:
            return None
        waiter = Waiter()
        self._count += 1
        self._waiting.setdefault(task_id, []).append(waiter)
        return waiter

    def remove(self, task_id: str, waiter: Waiter) -> None:
        """Forget one that ``add`` has returned."""
        self._count -= 1
        others = self._waiting[task_id]
        others.remove(waiter)
        if not others:
            del self._waiting[task_id]

    def tell(self, event: Event) -> None:
        """Wake those who wait for the task if the event is its end."""
        if event.data.get("state") in TERMINAL:
            for waiter in self._waiting.get(event.task_id, ()):
                waiter.tell()

    def send_away(self) -> None:
        """Have nobody wait any more."""
        for waiter in (one for several in self._waiting.values() for one in several):
            waiter.is_over = True
            waiter.tell()


Watch = Callable[[str], AbstractAsyncContextManager[Waiter | None]]


async def ended_task(
    watch: Watch, read: Callable[[], Awaitable[Task]], task: Task, seconds: float
) -> Task:
    """Return the task once it has ended, or as it is after ``seconds``.

    ``task`` is what ``read`` has returned before. When too many wait already, it is the answer.
    """
    if not seconds or task.state in TERMINAL:
        return task
    deadline = time.monotonic() + seconds
    async with watch(task.id) as waiter:
        if waiter is None:
            return task
        while True:
            # Read again: it may have ended before anybody listened.
            waiter.prepare()
            task = await read()
            left = deadline - time.monotonic()
            if left <= 0 or task.state in TERMINAL or waiter.is_over:
                return task
            pause = POLL_SECONDS * random.uniform(1.0, 1.5)  # noqa: S311 (spreads load)
            await waiter.wait(min(left, pause))
