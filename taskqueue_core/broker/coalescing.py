"""Calls that many callers share: what is asked for in one turn of the event loop goes together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.logs import subject

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_Asked = tuple[Item, "asyncio.Future[Answer]"]


def _nothing(_item: object) -> int:
    return 0


class Coalescer(Generic[Item, Answer]):
    """Gathers items and calls ``call`` with as many as wait, which answers each in its place.

    At most ``at_once`` calls are under way, each with at most ``most`` items; one more item is not
    taken into a call whose items weigh ``heaviest`` bytes already. What comes meanwhile waits. An
    item whose caller gives up while it waits is never sent.

    An error of a call is that of all its items. When nobody answered, it is also that of those who
    wait: a caller behind many others learns of an outage as soon as the first ones do.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        at_once: int = 2,
        weigh: Callable[[Item], int] = _nothing,
        heaviest: int = 1_048_576,
    ) -> None:
        self._call = call
        self._most = most
        self._at_once = at_once
        self._weigh = weigh
        self._heaviest = heaviest
        self._waiting: deque[_Asked[Item, Answer]] = deque()
        self._runs: set[asyncio.Task[None]] = set()
        self._is_due = False

    def ask(self, item: Item) -> asyncio.Future[Answer]:
        """Return the future answer to an item."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._start()
        return future

    async def close(self) -> None:
        """End the calls that are under way; nobody waits for them any more."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        runs = list(self._runs)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    def _start(self) -> None:
        # A task begins in the next turn of the loop: it takes all that this one brings.
        if not self._is_due and len(self._runs) < self._at_once:
            self._is_due = True
            self._runs.add(asyncio.create_task(self._run(), name="coalesced-calls"))

    async def _run(self) -> None:
        self._is_due = False
        subject.set(None)  # it is many callers', so its log lines are not those of the first one
        task = asyncio.current_task()
        assert task is not None
        try:
            while asked := self._take():
                if self._waiting:
                    self._start()
                await self._answer(asked)
        finally:
            # Not when the task is done, which is later: what is asked for then would wait for ever.
            self._runs.discard(task)

    def _take(self) -> list[_Asked[Item, Answer]]:
        asked: list[_Asked[Item, Answer]] = []
        weight = 0
        while self._waiting and len(asked) < self._most and weight < self._heaviest:
            item, future = self._waiting.popleft()
            if not future.done():
                asked.append((item, future))
                weight += self._weigh(item)
        return asked

    async def _answer(self, asked: list[_Asked[Item, Answer]]) -> None:
        try:
            answers = await self._call([item for item, _ in asked])
            for (_, future), answer in zip(asked, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        except asyncio.CancelledError:
            for _, future in asked:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 -- it is for those who wait
            if isinstance(error, BrokerUnavailableError):
                asked += self._waiting
                self._waiting.clear()
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
                    # One who is cancelled at this very moment never looks: that is no fault.
                    future.exception()
