"""A worker's side of the broker: take tasks, report outcomes, keep leases, come and go.

A session belongs to one worker process (``instance`` is random for each start) and one partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.keys import Keys
from taskqueue_core.models import (
    Delivery,
    Fetched,
    HandlerInfo,
    LeaseStatus,
    Outcome,
    OutcomeKind,
    OutcomeStatus,
)

_FIELDS_PER_TASK: Final = 11
_SCRIPTS: Final = {
    OutcomeKind.COMPLETE: "complete",
    OutcomeKind.FAIL: "fail",
    OutcomeKind.RELEASE: "release",
    OutcomeKind.HOLD: "hold",
}
_STATUSES: Final = {status.value: status for status in OutcomeStatus}


class Recovered(msgspec.Struct, frozen=True):
    """Tasks taken over from lost leases, and workers whose registration has expired."""

    deliveries: list[Delivery]
    expired_workers: list[str]


class Beat(msgspec.Struct, frozen=True):
    """The broker's answer to a heartbeat: one status per lease that was named.

    ``queues_version`` differs from the one before when there are new queues.
    """

    is_known: bool
    is_paused: bool
    statuses: list[LeaseStatus]
    queues_version: int


class Report(msgspec.Struct, frozen=True):
    """What a handler says about its progress: the part that is done, from 0 to 1, and a text."""

    delivery: Delivery
    fraction: float
    message: str = ""


class WorkerSession:
    """The calls of one worker process in one partition."""

    def __init__(self, scripts: Scripts, keys: Keys, worker_id: str, instance: str) -> None:
        self.keys = keys
        self.worker_id = worker_id
        self.instance = instance
        self._scripts = scripts
        self._worker_key = keys.worker(worker_id)
        self._cursors: dict[str, bytes] = {}

    async def register(
        self,
        *,
        concurrency: int,
        version: str,
        queues: Sequence[str] = (),
        handlers: Mapping[str, HandlerInfo],
        schemas: bytes = b"",
        process: str = "",
    ) -> int | None:
        """Announce the worker; ``None`` when done, else the ms until the name may be free.

        The name is taken while a live worker of another instance has it. ``schemas`` are the JSON
        Schemas of its handlers, see ``HandlerSchemas``; ``process`` is its process id and host.
        """
        done, expires_ms = await self._scripts.call(
            "register",
            [self.keys.meta, self._worker_key],
            [
                self.worker_id,
                self.instance,
                concurrency,
                version,
                msgspec.json.encode(queues),
                msgspec.json.encode(handlers),
                schemas,
                process,
            ],
        )
        return None if done else int(expires_ms)

    async def fetch(
        self,
        wanted: int,
        *,
        streams: Sequence[str],
        request: int,
        lane: int = 0,
        outcomes: Sequence[Outcome] = (),
    ) -> Fetched:
        """Report up to 100 outcomes and take up to 100 tasks, in one round trip.

        ``request`` numbers the requests of a ``lane``; a number that was not answered is used
        again, and then brings the same tasks. A lane has one request under way at a time.
        """
        arguments: list[Argument] = [
            self.worker_id,
            self.instance,
            lane,
            request,
            wanted,
            len(outcomes),
        ]
        for outcome in outcomes:
            _append_outcome(arguments, outcome)
        reply = await self._scripts.call(
            "fetch", [self.keys.meta, self._worker_key, *streams], arguments
        )
        now, next_due, version, is_known, is_paused, codes, tasks = reply
        return Fetched(
            deliveries=self._deliveries(now, tasks),
            statuses=[_STATUSES[code] for code in codes],
            now_ms=now,
            next_due_ms=None if next_due < 0 else next_due,
            queues_version=version,
            is_known=bool(is_known),
            is_paused=bool(is_paused),
        )

    async def complete(self, outcomes: Sequence[Outcome]) -> list[OutcomeStatus]:
        """End deliveries with their results."""
        return await self._report(OutcomeKind.COMPLETE, outcomes)

    async def fail(self, outcomes: Sequence[Outcome]) -> list[OutcomeStatus]:
        """End deliveries with errors; each is retried later, or given up."""
        return await self._report(OutcomeKind.FAIL, outcomes)

    async def release(self, outcomes: Sequence[Outcome]) -> list[OutcomeStatus]:
        """Give deliveries back unfinished; no attempt is counted."""
        return await self._report(OutcomeKind.RELEASE, outcomes)

    async def hold(self, outcomes: Sequence[Outcome]) -> list[OutcomeStatus]:
        """Put deliveries aside that this worker has no handler for."""
        return await self._report(OutcomeKind.HOLD, outcomes)

    async def _report(self, kind: OutcomeKind, outcomes: Sequence[Outcome]) -> list[OutcomeStatus]:
        arguments: list[Argument] = [self.worker_id, self.instance, len(outcomes)]
        for outcome in outcomes:
            if outcome.kind is not kind:
                raise ValueError(f"{outcome.kind.name} outcome reported as {kind.name}")
            _append_outcome(arguments, outcome)
        codes = await self._scripts.call(_SCRIPTS[kind], [self.keys.meta], arguments)
        return [_STATUSES[code] for code in codes]

    async def recover(self, wanted: int, *, streams: Sequence[str]) -> Recovered:
        """Take over up to ``wanted`` tasks whose lease has run out.

        Each call goes on in the streams where the last one stopped.
        """
        cursors = [self._cursors.get(stream, b"0-0") for stream in streams]
        now, tasks, cursors, expired = await self._scripts.call(
            "recover",
            [self.keys.meta, *streams],
            [self.worker_id, self.instance, wanted, *cursors],
        )
        self._cursors = dict(zip(streams, cursors, strict=True))
        deliveries = self._deliveries(now, tasks, is_recovered=True)
        return Recovered(deliveries, [name.decode() for name in expired])

    async def heartbeat(
        self,
        *,
        request: int,
        held: Sequence[Delivery] = (),
        active: int,
        types: Sequence[str] = (),
        counters: Mapping[str, int] | None = None,
        rates: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        forgotten_ms: int = 0,
        streams: Sequence[str] = (),
    ) -> Beat:
        """Renew the registration and up to 100 leases, and add ``counters`` to the fleet's.

        ``rates`` are to be shown: the tasks completed and the attempts failed a second, then the
        seconds that slots have been busy and idle since the start.

        With ``streams``, tasks given to this worker longer than ``forgotten_ms`` ago that it has
        not named since go back to their queue: name all that are held before, in earlier calls.
        """
        counters = counters or {}
        arguments: list[Argument] = [
            self.worker_id,
            self.instance,
            request,
            active,
            forgotten_ms,
            len(types),
            len(counters),
            len(held),
            " ".join(f"{rate:.3f}" for rate in rates),
            *types,
        ]
        for name, increment in counters.items():
            arguments += (name, increment)
        for delivery in held:
            arguments += (delivery.digits, delivery.number)
        _, is_known, is_paused, codes, version = await self._scripts.call(
            "heartbeat", [self.keys.meta, self._worker_key, *streams], arguments
        )
        statuses = [LeaseStatus(code) for code in codes]
        return Beat(bool(is_known), bool(is_paused), statuses, version)

    async def progress(self, reports: Sequence[Report], *, request: int) -> list[bool]:
        """Tell listeners how far up to 100 deliveries are; False where one is lost.

        A number of a request that was not answered is used again, for the same reports.
        """
        arguments: list[Argument] = [self.worker_id, self.instance, request, len(reports)]
        for report in reports:
            delivery = report.delivery
            arguments += (delivery.digits, delivery.number, str(report.fraction), report.message)
        codes = await self._scripts.call("progress", [self.keys.meta, self._worker_key], arguments)
        return [bool(code) for code in codes]

    async def stop(self) -> None:
        """Show the worker as shutting down."""
        await self._scripts.call("stop", [self.keys.meta, self._worker_key], [self.instance])

    async def deregister(self) -> bool:
        """Leave: remove the registration and the consumers; False while tasks are still held."""
        removed = await self._scripts.call(
            "deregister",
            [self.keys.meta, self._worker_key, self.keys.control(self.worker_id)],
            [self.worker_id, self.instance],
        )
        return bool(removed)

    def _deliveries(
        self, now_ms: int, flat: Sequence[Any], *, is_recovered: bool = False
    ) -> list[Delivery]:
        partition = self.keys.partition
        return [
            Delivery(
                digits=flat[at].decode(),
                entry_id=flat[at + 1].decode(),
                queue=flat[at + 2].decode(),
                priority=int(flat[at + 3]),
                type=flat[at + 4].decode(),
                number=flat[at + 5],
                attempts=flat[at + 6],
                lost_leases=flat[at + 7],
                timeout_seconds=int(flat[at + 8]) if flat[at + 8] else None,
                max_retries=int(flat[at + 9]) if flat[at + 9] else None,
                body=flat[at + 10],
                fetched_at_ms=now_ms,
                enqueued_at_ms=int(flat[at + 1].partition(b"-")[0]),
                partition=partition,
                is_recovered=is_recovered,
            )
            for at in range(0, len(flat), _FIELDS_PER_TASK)
        ]


def _append_outcome(arguments: list[Argument], outcome: Outcome) -> None:
    delivery = outcome.delivery
    arguments += (
        outcome.kind.value,
        delivery.digits,
        delivery.number,
        outcome.duration_ms,
        outcome.value,
        outcome.delay_ms,
        outcome.max_retries,
        "dropped" if outcome.is_dropped else outcome.reason,
        outcome.history,
    )
