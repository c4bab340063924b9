"""Take tasks and report outcomes, both in the same round trips.

At most two calls are under way (lanes), each asking for at most half of the slots, so that Redis
and the worker work at the same time. What ends while a call is out goes with the next one;
a lone outcome goes out in the same turn of the event loop. Slots of a call are reserved before it
is sent; the answer gives back what it did not use. A call whose answer is lost is sent again
unchanged until it is answered: the broker then answers the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

from taskqueue_core.broker import BATCH, WorkerSession
from taskqueue_core.errors import BrokerFullError, BrokerUnavailableError
from taskqueue_core.models import Delivery, Fetched, Outcome, OutcomeKind, OutcomeStatus
from taskqueue_core.worker.loop import Backoff
from taskqueue_core.worker.slots import Slots

LANES = 2

#: Most bytes of results and errors in one call; Redis cuts the connection of a client far above.
CALL_BYTES: Final = 16 * 2**20
#: After so many error answers in a row, the outcomes of a call are reported one by one.
REFUSALS: Final = 3

#: Passes by itself: such a call is repeated unchanged for as long as it takes.
_PASSING: Final = (BrokerUnavailableError, BrokerFullError)


class Desk(Protocol):
    """Who runs the deliveries and wants to know what the broker says."""

    def start(self, delivery: Delivery) -> None:
        """Run a delivery; its outcome comes back through ``Fetcher.report``."""

    def settled(self, outcome: Outcome, status: OutcomeStatus) -> None:
        """Forget a delivery whose outcome the broker has answered."""

    def refused(self, outcome: Outcome, error: Exception) -> None:
        """Forget a delivery whose outcome the broker answers with an error, always."""

    def answered(self, fetched: Fetched, asked_at: float) -> None:
        """Hear what else an answer says; it was asked for at ``asked_at`` by the own clock."""


class Fetcher:
    """The calls that fill and empty a worker's slots in one partition.

    ``share`` is the number of fetchers that share the slots: each asks for its part at most.

    Deliveries in an answer that took longer than ``trust_seconds`` may have been given to another
    worker meanwhile: the broker is asked again which of them are still this worker's.
    ``answers`` counts those of the broker, errors included.
    """

    def __init__(
        self,
        session: WorkerSession,
        desk: Desk,
        *,
        slots: Slots,
        share: int = 1,
        backoffs: Sequence[Backoff],
        trust_seconds: float,
    ) -> None:
        self._slots = slots
        slots.tell(self._schedule)
        self.trust_seconds = trust_seconds
        self.streams: Sequence[str] = ()
        self.answers = 0
        self.is_dry = False
        self.is_open = False
        self.is_paused = False
        self.went_dry = asyncio.Event()
        self._wakes = 0
        self._session = session
        self._desk = desk
        self._cap = min(BATCH, -(-slots.total // (2 * share)))
        self._outcomes: list[Outcome] = []
        self._lanes = list(range(len(backoffs)))
        self._backoffs = backoffs
        self._requests = [0] * len(backoffs)
        self._calls: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    @property
    def free(self) -> int:
        """Return how many more tasks the worker may run."""
        return self._slots.free

    @property
    def can_take(self) -> bool:
        """Tell whether a task could be started now."""
        return self.is_open and not self.is_paused and self._slots.free > 0

    @property
    def is_waiting(self) -> bool:
        """Tell whether an answer is expected, or would be if all went well."""
        return bool(self._calls) or self.can_take

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

    def report(self, outcome: Outcome) -> None:
        """Hand in an outcome and give back its slot."""
        self._outcomes.append(outcome)
        self._slots.give(1)

    def reserve(self, most: int) -> int:
        """Set up to ``most`` slots aside for tasks that come another way; how many."""
        return self._slots.take(most) if self.can_take else 0

    async def reserve_next(self, within_seconds: float) -> int:
        """Set the next slot aside that comes free, before a fetch gets it; how many, 0 or 1."""
        taken = await self._slots.take_next(within_seconds)
        if taken and (not self.is_open or self.is_paused):
            self._slots.give(taken)
            return 0
        return taken

    def give_back(self, slots: int) -> None:
        """Return slots that were reserved: what rang meanwhile found none free."""
        self._slots.give(slots)

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
            self._is_quiet.clear()
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        while self._lanes:
            wanted = min(self._cap, self._slots.free) if self.can_take else 0
            if not self._outcomes and (wanted == 0 or self.is_dry):
                break
            batch = _fitting(self._outcomes[:BATCH])
            del self._outcomes[: len(batch)]
            self._slots.take(wanted)
            call = asyncio.create_task(self._call(self._lanes.pop(), batch, wanted))
            self._calls.add(call)
            call.add_done_callback(self._called)
        self._note_quiet()

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if not self._calls and not self._outcomes and not self._is_scheduled:
            self._is_quiet.set()

    async def _call(self, lane: int, outcomes: list[Outcome], wanted: int) -> None:
        backoff, streams, wakes = self._backoffs[lane], self.streams, self._wakes
        fetched = None
        while fetched is None:
            asked_at = time.monotonic()
            try:
                fetched = await self._session.fetch(
                    wanted,
                    streams=streams,
                    request=self._requests[lane],
                    lane=lane,
                    outcomes=outcomes,
                )
            except Exception as error:  # noqa: BLE001 (repeated until answered, and logged)
                self.answers += not isinstance(error, BrokerUnavailableError)
                await backoff.failed(error)
                if not isinstance(error, _PASSING) and backoff.failures >= REFUSALS:
                    await self._settle_alone(outcomes, backoff)
                    break
                continue
            self.answers += 1
            for outcome, status in zip(outcomes, fetched.statuses, strict=True):
                self._desk.settled(outcome, status)
            outcomes = []
            if fetched.deliveries and time.monotonic() - asked_at > self.trust_seconds:
                fetched, wakes = None, -1
        self._requests[lane] += 1
        self._lanes.append(lane)
        if fetched is None:
            # Leave it to the scheduler, in a few seconds, to ask again.
            self.is_dry = True
            self.give_back(wanted)
            self._schedule()
        else:
            backoff.succeeded()
            self._answered(fetched, wanted, asked_at, is_latest=wakes == self._wakes)

    def _answered(self, fetched: Fetched, wanted: int, asked_at: float, *, is_latest: bool) -> None:
        self._slots.give(wanted - len(fetched.deliveries))
        if wanted:
            # Woken since the call was sent: what rang may have come after it looked.
            self.is_dry = is_latest and len(fetched.deliveries) < wanted
        self._desk.answered(fetched, asked_at)
        for delivery in fetched.deliveries:
            self._desk.start(delivery)
        if self.is_dry:
            self.went_dry.set()
        else:
            self.went_dry.clear()
        self._schedule()

    async def _settle_alone(self, outcomes: list[Outcome], backoff: Backoff) -> None:
        """Report one by one, so that an outcome that is always refused holds up no others."""
        for outcome in outcomes:
            is_settled = False
            while not is_settled:
                try:
                    self._desk.settled(outcome, await self._report_alone(outcome))
                    is_settled = True
                except _PASSING as error:
                    await backoff.failed(error)
                except Exception as error:  # noqa: BLE001 (handed on, or repeated and logged)
                    if await self._is_serving():
                        self._desk.refused(outcome, error)
                        is_settled = True
                    else:
                        await backoff.failed(error)

    async def _report_alone(self, outcome: Outcome) -> OutcomeStatus:
        session = self._session
        report = {
            OutcomeKind.COMPLETE: session.complete,
            OutcomeKind.FAIL: session.fail,
            OutcomeKind.RELEASE: session.release,
            OutcomeKind.HOLD: session.hold,
        }[outcome.kind]
        return (await report([outcome]))[0]

    async def _is_serving(self) -> bool:
        """Tell whether the broker takes a report of nothing: then it was the outcome's fault."""
        try:
            await self._session.complete([])
        except Exception:  # noqa: BLE001 (the answer to the question)
            return False
        return True


def _fitting(outcomes: list[Outcome]) -> list[Outcome]:
    """Return as many as fit into one call, at least one."""
    size = 0
    for number, outcome in enumerate(outcomes):
        size += len(outcome.value) + len(outcome.history)
        if size > CALL_BYTES and number:
            return outcomes[:number]
    return outcomes
