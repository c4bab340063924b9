"""A worker that does only what a test tells it: takes tasks and reports their outcomes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from taskqueue_core.broker import Broker
from taskqueue_core.models import Delivery, HandlerInfo, Outcome, OutcomeKind, OutcomeStatus
from taskqueue_core.plugin.schemas import HandlerSchemas


class FakeWorker:
    """One worker of one slot, over the worker's side of the broker."""

    def __init__(self, broker: Broker, worker_id: str = "worker-1", queue: str = "default") -> None:
        self.id = worker_id
        self.session = broker.session(worker_id, "instance")
        keys = broker.partitions[0]
        self._streams = [keys.stream(queue, priority) for priority in (3, 2, 1, 0)]
        self._request = 0

    async def register(
        self,
        handlers: Mapping[str, HandlerInfo] | None = None,
        schemas: Mapping[str, HandlerSchemas] | None = None,
    ) -> None:
        """Announce the worker, its handlers and their schemas."""
        known = {"echo": HandlerInfo()} if handlers is None else dict(handlers)
        for name, one in (schemas or {}).items():
            known[name] = replace(known.get(name, HandlerInfo()), schemas=one.digest)
        await self.session.register(
            concurrency=10,
            version="1.0.0",
            handlers=known,
            schemas=msgspec.json.encode(schemas or {}),
            process="4711 host-1",
        )
        await self.session.heartbeat(request=1, active=0, types=list(known))

    async def take(self) -> Delivery:
        """Take the next task."""
        self._request += 1
        fetched = await self.session.fetch(1, streams=self._streams, request=self._request)
        return fetched.deliveries[0]

    async def complete(self, delivery: Delivery, result: bytes = b"{}") -> None:
        """End a task with a result."""
        outcome = Outcome(
            delivery=delivery, kind=OutcomeKind.COMPLETE, value=result, duration_ms=12
        )
        assert await self.session.complete([outcome]) == [OutcomeStatus.ACCEPTED]

    async def fail(
        self,
        delivery: Delivery,
        error: str = "boom",
        max_retries: int = 0,
        *,
        history: bytes = b"",
    ) -> None:
        """End an attempt with an error; with retries left the next one is a minute away."""
        outcome = Outcome(
            delivery=delivery,
            kind=OutcomeKind.FAIL,
            value=error.encode(),
            duration_ms=12,
            delay_ms=60_000,
            max_retries=max_retries,
            history=history,
        )
        assert await self.session.fail([outcome]) == [OutcomeStatus.ACCEPTED]
