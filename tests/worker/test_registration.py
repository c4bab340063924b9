"""Registration: one name, one worker; made again when it was lost, read again for new queues."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import pytest
from crew import submit

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.errors import BrokerUnavailableError, SettingsError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings
from taskqueue_core.worker.registration import Registration

pytestmark = pytest.mark.anyio


class Failing(WorkerSession):
    """A session whose next registrations fail."""

    failures = 0

    async def register(self, **rest: Any) -> int | None:
        """Register, or not."""
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailableError("away")
        return await super().register(**rest)


class Member:
    """A registration, and the queues that it said are to be served."""

    def __init__(self, broker: Broker, instance: str = "i1") -> None:
        like = broker.session("w1", instance)
        self.session = Failing(like._scripts, like.keys, like.worker_id, like.instance)
        self.queues: list[Sequence[str]] = []
        self.registration = Registration(
            broker,
            self.session,
            broker.settings.worker,
            {"echo": HandlerInfo()},
            {"echo": HandlerSchemas(payload={"type": "object", "required": ["a"]})},
            on_queues=self.queues.append,
            throttle=Throttle(3, time.monotonic),
        )


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with a lease of 200 ms."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(namespace=namespace),
        worker=WorkerSettings(heartbeat_interval_seconds=0.1, lease_seconds=0.2),
    )


async def test_joining_publishes_the_worker_and_reads_the_queues(broker: Broker) -> None:
    """Handlers are there for all to see; all queues are served."""
    await submit(broker, queue="mail")
    member = Member(broker)
    assert await member.registration.register()
    [worker] = await broker.inspection.workers()
    assert (worker.id, worker.instance, worker.handlers) == ("w1", "i1", b'{"echo":{}}')
    assert member.queues == [["mail"]]
    assert worker.process == f"{os.getpid()} {socket.gethostname()[:64]}"
    schemas = await broker.inspection.handler_schemas("w1")
    assert schemas == b'{"echo":{"payload":{"type":"object","required":["a"]}}}'


async def test_only_the_named_queues_are_served(broker: Broker, settings: Settings) -> None:
    """Whether they exist or not."""
    await submit(broker)
    some = settings.worker.model_copy(update={"queues": ("mail", "images")})
    broker.settings = settings.model_copy(update={"worker": some})
    member = Member(broker)
    await member.registration.register()
    assert member.queues == [("mail", "images")]


async def test_a_taken_name_is_waited_for_while_its_owner_may_be_dead(broker: Broker) -> None:
    """A worker that was killed and starts anew gets its name when the lease has run out."""
    assert await Member(broker, "dead").registration.register()
    member = Member(broker, "new")
    assert not await member.registration.register()
    while not await member.registration.register():
        pass
    assert [worker.instance for worker in await broker.inspection.workers()] == ["new"]


async def test_a_name_that_stays_taken_ends_the_wait(broker: Broker) -> None:
    """Waiting is no busy loop, and over a second after a lease."""
    other = Member(broker, "other")
    assert await other.registration.register()
    await broker.redis.persist(other.session.keys.worker("w1"))
    member = Member(broker, "new")
    tries: list[float] = []

    async def insist() -> None:
        while not await member.registration.register():
            tries.append(time.monotonic())

    with pytest.raises(SettingsError, match="give each worker its own --id"):
        await insist()
    assert tries[-1] - tries[0] > 1.0
    assert len(tries) < 40


async def test_a_lost_registration_is_made_again(broker: Broker) -> None:
    """Also what marks the namespace as ours, which is gone after FLUSHALL; errors are retried."""
    member = Member(broker)
    await member.registration.register()
    keys = member.session.keys
    await broker.redis.unlink(keys.worker("w1"), keys.meta, keys.events)
    member.session.failures = 1
    member.registration.lost()
    with pytest.raises(BrokerUnavailableError):
        await member.registration.run_once()
    await member.registration.run_once()
    assert [worker.id for worker in await broker.inspection.workers()] == ["w1"]
    assert await broker.redis.hmget(keys.meta, "schema", "partitions") == [b"1", b"1"]


async def test_a_new_queue_is_read_even_if_the_broker_is_away_first(broker: Broker) -> None:
    """The version is the reason to read again; a failed attempt is not the end of it."""
    member = Member(broker)
    await member.registration.register()
    member.registration.saw_version(0)
    await member.registration.run_once()
    await submit(broker, queue="mail")
    member.session.failures = 1
    member.registration.saw_version(1)
    with pytest.raises(BrokerUnavailableError):
        await member.registration.run_once()
    await member.registration.run_once()
    assert member.queues[-1] == ["mail"]


async def test_queues_that_stay_the_same_are_told_once(broker: Broker) -> None:
    """A registration that was lost makes them news again."""
    member = Member(broker)
    await member.registration.register()
    await submit(broker, queue="mail")
    for version in (1, 2):
        member.registration.saw_version(version)
        await member.registration.run_once()
    assert member.queues == [[], ["mail"]]
    member.registration.lost()
    await member.registration.run_once()
    assert member.queues == [[], ["mail"], ["mail"]]


async def test_without_a_reason_nothing_is_asked(broker: Broker) -> None:
    """The same version again, a hundred times a second, costs nothing."""
    member = Member(broker)
    await member.registration.register()
    member.registration.saw_version(1)
    await member.registration.run_once()
    member.registration.saw_version(1)
    idle = asyncio.create_task(member.registration.run_once())
    await asyncio.sleep(0.02)
    assert not idle.done()
    idle.cancel()
    await asyncio.gather(idle, return_exceptions=True)
