"""Wait for the end of a task: the server waits; where it cannot, events tell; else it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from taskqueue_client import _calls
from taskqueue_client._async.stream import AsyncEventStream
from taskqueue_client._async.transport import AsyncTransport
from taskqueue_client._async_io import pause
from taskqueue_client._generated.models import EventType, Task
from taskqueue_client.errors import TaskQueueError, UnreachableError, WaitTimeoutError
from taskqueue_client.retries import may_pass
from taskqueue_client.tasks import has_ended

#: Longest time that one request waits: proxies cut off what is silent for a minute.
LONGEST_POLL_SECONDS: Final = 30.0
#: Longest time between two looks at a task.
LONGEST_PAUSE_SECONDS: Final = 2.0
_ENDS: Final = (
    EventType.TASK_COMPLETED,
    EventType.TASK_FAILED,
    EventType.TASK_DEAD_LETTER,
    EventType.TASK_CANCELLED,
)


class AsyncWaiting:
    """One wait for one task."""

    def __init__(
        self,
        transport: AsyncTransport,
        task_id: str,
        seconds: float,
        follow: Callable[..., AsyncEventStream],
    ) -> None:
        self._transport = transport
        self._task_id = task_id
        self._seconds = seconds
        self._follow = follow
        self._deadline = time.monotonic() + seconds
        self._pause_seconds = 0.1

    async def run(self) -> Task:
        """Return the task once it has ended.

        A server that is away meanwhile is given the rest of the time to come back.

        Raises:
            WaitTimeoutError: it has not ended in time.
            TaskQueueError: the server refuses, or is away when the time is over.
        """
        has_followed = False
        while True:
            asked, started = min(LONGEST_POLL_SECONDS, self._left()), time.monotonic()
            try:
                task = await self._look(asked)
            except TaskQueueError as error:
                if not may_pass(error) or not self._left():
                    raise
                await self._rest()
                continue
            if has_ended(task):
                return task
            if not self._left():
                raise WaitTimeoutError(task, self._seconds)
            if time.monotonic() - started >= asked / 2:
                continue
            # The server has no room for one more who waits.
            if has_followed:
                await self._rest()
            else:
                has_followed = True
                await self._listen()

    async def _look(self, wait_seconds: float) -> Task:
        return await self._transport.send(_calls.get(self._task_id, wait_seconds))

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def _rest(self) -> None:
        await pause(min(self._pause_seconds, self._left()))
        self._pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds)

    async def _listen(self) -> None:
        """Come back when an event says that the task has ended, or when there are no events."""
        stream = self._follow(*_ENDS, task_id=self._task_id, reconnect_seconds=0.0)
        try:
            async with stream:
                if not has_ended(await self._look(0.0)):
                    await stream.receive(min(LONGEST_POLL_SECONDS, self._left()))
        except (TaskQueueError, TimeoutError) as error:
            if isinstance(error, UnreachableError) or not self._left():
                return
            await self._rest()
