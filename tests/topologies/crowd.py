"""What tests do with a broker on several partitions: open it, submit to it, work on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from topology import Alone

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.keys import Keys
from taskqueue_core.models import Delivery, NewTask, Outcome, OutcomeKind
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings


def settings_for(place: Alone, namespace: str, **queue: object) -> Settings:
    """Return settings for a place, which knows how many partitions suit it."""
    return Settings(
        redis=RedisSettings(url=place.url, read_timeout_seconds=1.0),
        queue=QueueSettings.model_validate(
            {"namespace": namespace, "partitions": place.partitions} | queue
        ),
    )


class Crew:
    """One worker in all partitions, driven by hand."""

    def __init__(self, broker: Broker, name: str = "w1") -> None:
        self.broker = broker
        self._sessions = [broker.session(name, "i1", k.partition) for k in broker.partitions]
        self._requests = 0

    async def join(self) -> None:
        """Register in every partition."""
        for session in self._sessions:
            assert await session.register(concurrency=10, version="1", handlers={}) is None

    async def fetch(self, wanted: int = 100) -> list[Delivery]:
        """Take what waits in every partition."""
        taken: list[Delivery] = []
        for session in self._sessions:
            self._requests += 1
            streams = await self._streams(session.keys)
            fetched = await session.fetch(wanted, streams=streams, request=self._requests)
            taken += fetched.deliveries
        return taken

    async def report(
        self, kind: OutcomeKind, deliveries: list[Delivery], value: bytes = b"{}"
    ) -> None:
        """Report the same outcome for all deliveries, each to its partition."""
        for session in self._sessions:
            own = [d for d in deliveries if d.partition == session.keys.partition]
            outcomes = [
                Outcome(kind=kind, delivery=one, duration_ms=1, value=value, max_retries=0)
                for one in own
            ]
            call = session.complete if kind is OutcomeKind.COMPLETE else session.fail
            for start in range(0, len(own), 100):
                await call(outcomes[start : start + 100])

    async def recover(self) -> list[Delivery]:
        """Report in every partition and take over what other workers have lost."""
        taken: list[Delivery] = []
        for session in self._sessions:
            self._requests += 1
            await session.heartbeat(request=self._requests, active=0)
            streams = await self._streams(session.keys)
            taken += (await session.recover(100, streams=streams)).deliveries
        return taken

    async def _streams(self, keys: Keys) -> list[str]:
        queues = await self.broker.inspection.queues(keys)
        return [keys.stream(queue, priority) for priority in (3, 2, 1, 0) for queue in queues]


def new_task(broker: Broker) -> NewTask:
    """Return a task to submit, in a random partition."""
    return NewTask(id=broker.new_task_id(), type="echo", payload=b'{"text":"' + b"x" * 80 + b'"}')


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Broker]:
    """Yield a prepared broker; afterwards everything must be in its place."""
    broker = open_broker(settings)
    try:
        await broker.prepare()
        yield broker
        assert await broker.inspection.audit() == []
    finally:
        await broker.close()
