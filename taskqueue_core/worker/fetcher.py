"""Take tasks and report outcomes, both in the same round trips.

At most two calls are under way (lanes), each asking for at most half of the slots, so that Redis
and the worker work at the same time. What ends while a call is out goes with the next one;
a lone outcome goes out in the same turn of the event loop. Slots of a call are reserved before it
is sent; the answer gives back what it did not use. A call whose answer is lost is sent again
unchanged until it is answered: the broker then answers the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from taskqueue_core.broker import BATCH, WorkerSession
from taskqueue_core.models import Delivery, Fetched, Outcome, OutcomeStatus
from taskqueue_core.worker.loop import Backoff

LANES = 2


class Desk(Protocol):
    """Who runs the deliveries and wants to know what became of the outcomes."""

    def start(self, delivery: Delivery) -> None:
        """Run a delivery; its outcome comes back through ``Fetcher.report``."""

    def settled(self, outcome: Outcome, status: OutcomeStatus) -> None:
        """Forget a delivery whose outcome the broker has answered."""


class Fetcher:
    """The slots of one worker process in one partition, and the calls that fill and empty them."""

    def __init__(
        self,
        session: WorkerSession,
        desk: Desk,
        *,
        slots: int,
        backoffs: Sequence[Backoff],
        on_answer: Callable[[Fetched], None],
    ) -> None:
        self.free = slots
        self.streams: Sequence[str] = ()
        self.is_dry = False
        self.is_open = False
        self.is_paused = False
        self._wakes = 0
        self._session = session
        self._desk = desk
        self._cap = min(BATCH, -(-slots // 2))
        self._outcomes: list[Outcome] = []
        self._lanes = list(range(len(backoffs)))
        self._backoffs = backoffs
        self._requests = [0] * len(backoffs)
        self._calls: set[asyncio.Task[None]] = set()
        self._on_answer = on_answer
        self._is_scheduled = False
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self.went_dry = asyncio.Event()

    @property
    def can_take(self) -> bool:
        """Tell whether a task could be started now."""
        return self.is_open and not self.is_paused and self.free > 0

    def open(self) -> None:
        """Begin to take tasks."""
        self.is_open = True
        self.wake()

    def close(self) -> None:
        """Take no more tasks; outcomes still go out."""
        self.is_open = False

    def wake(self) -> None:
        """Look for tasks: there may be some."""
        self._wakes += 1
        self.is_dry = False
        self.went_dry.clear()
        self._schedule()

    def report(self, outcome: Outcome, *, frees: int = 1) -> None:
        """Hand in an outcome and give back its slot."""
        self._outcomes.append(outcome)
        self.free += frees
        self._is_quiet.clear()
        self._schedule()

    async def drained(self) -> None:
        """Wait until every outcome is answered and no call is under way."""
        await self._is_quiet.wait()

    async def abort(self) -> None:
        """Give up the calls under way; what they hold is recovered when its lease runs out."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        while self._lanes:
            wanted = min(self._cap, self.free) if self.can_take else 0
            if not self._outcomes and (wanted == 0 or self.is_dry):
                break
            batch, self._outcomes = self._outcomes[:BATCH], self._outcomes[BATCH:]
            self.free -= wanted
            call = asyncio.create_task(self._call(self._lanes.pop(), batch, wanted))
            self._calls.add(call)
            self._is_quiet.clear()
            call.add_done_callback(self._called)

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not self._calls and not self._outcomes:
            self._is_quiet.set()

    async def _call(self, lane: int, outcomes: list[Outcome], wanted: int) -> None:
        backoff, streams, wakes = self._backoffs[lane], self.streams, self._wakes
        while True:
            try:
                fetched = await self._session.fetch(
                    wanted,
                    streams=streams,
                    request=self._requests[lane],
                    lane=lane,
                    outcomes=outcomes,
                )
            except Exception as error:  # noqa: BLE001 (repeated until answered, and logged)
                await backoff.failed(error)
                continue
            break
        backoff.succeeded()
        self._requests[lane] += 1
        self._lanes.append(lane)
        self._answered(outcomes, wanted, fetched, is_latest=wakes == self._wakes)

    def _answered(
        self, outcomes: list[Outcome], wanted: int, fetched: Fetched, *, is_latest: bool
    ) -> None:
        for outcome, status in zip(outcomes, fetched.statuses, strict=True):
            self._desk.settled(outcome, status)
        self.free += wanted - len(fetched.deliveries)
        if wanted:
            # Woken since the call was sent: what rang may have come after it looked.
            self.is_dry = is_latest and len(fetched.deliveries) < wanted
        self._on_answer(fetched)
        for delivery in fetched.deliveries:
            self._desk.start(delivery)
        if self.is_dry:
            self.went_dry.set()
        else:
            self.went_dry.clear()
        self._schedule()
