"""Control messages and bells: what is heard, what is left to others, what an outage does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from crew import Notes

from taskqueue_core.broker import Broker, WorkerSession, open_redis
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_core.worker.control import BLOCK_SECONDS, Bell, Control
from taskqueue_core.worker.fetcher import Fetcher
from taskqueue_core.worker.slots import Slots

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bell(
    broker: Broker, session: WorkerSession, settings: Settings
) -> AsyncIterator[tuple[Bell, Fetcher]]:
    """Yield a bell of queue ``default``, and its fetcher, which has found the queues empty."""
    fetcher = Fetcher(session, Notes(), slots=Slots(1), backoffs=[], trust_seconds=60)
    fetcher.is_open = True
    fetcher.went_dry.set()
    redis = open_redis(settings, blocks_seconds=BLOCK_SECONDS)
    bell = Bell(redis, session, fetcher, is_choosy=False)
    bell.serve(["default"])
    yield bell, fetcher
    await redis.aclose()


async def test_messages_are_passed_on_in_order(
    broker: Broker, session: WorkerSession, settings: Settings
) -> None:
    """Pause and resume arrive as they were sent."""
    heard: list[str] = []
    redis = open_redis(settings, blocks_seconds=BLOCK_SECONDS)
    control = Control(redis, session, heard.append)
    await broker.pause("w1")
    await broker.resume("w1")
    for _ in range(2):
        assert await control.run_once() == 0.0
    assert heard == ["pause", "resume"]
    await redis.aclose()


@pytest.mark.parametrize("queue", ["default", "*"])
async def test_a_bell_wakes_the_fetcher(
    broker: Broker, session: WorkerSession, bell: tuple[Bell, Fetcher], queue: str
) -> None:
    """Its token is taken; there is no listening before the queues are empty again."""
    one, fetcher = bell
    await broker.redis.lpush(session.keys.bell(queue), "1")
    await one.run_once()
    assert not fetcher.went_dry.is_set()
    assert await broker.redis.llen(session.keys.bell(queue)) == 0


@pytest.mark.parametrize("is_free", [True, False])
async def test_its_own_bell_is_nobody_elses(
    broker: Broker, session: WorkerSession, bell: tuple[Bell, Fetcher], *, is_free: bool
) -> None:
    """It wakes the fetcher, and its token is taken also when nothing can be: the next fetch that
    may take something finds what is held."""
    one, fetcher = bell
    fetcher._slots.free = int(is_free)
    await broker.redis.lpush(session.keys.own_bell("w1"), "1")
    await one.run_once()
    assert not fetcher.went_dry.is_set()
    assert await broker.redis.llen(session.keys.own_bell("w1")) == 0


@pytest.mark.parametrize("reason", ["paused", "full", "closed"])
async def test_who_cannot_take_leaves_the_token_to_others(
    broker: Broker, session: WorkerSession, bell: tuple[Bell, Fetcher], reason: str
) -> None:
    """It goes back, and this worker does not listen again before it has looked."""
    one, fetcher = bell
    fetcher.is_paused = reason == "paused"
    fetcher.is_open = reason != "closed"
    fetcher._slots.free = 0 if reason == "full" else 1
    await broker.redis.lpush(session.keys.bell("default"), "1")
    await one.run_once()
    assert await broker.redis.llen(session.keys.bell("default")) == 1
    assert not fetcher.went_dry.is_set()


async def test_a_worker_of_some_queues_does_not_take_the_bell_for_new_ones(
    broker: Broker, session: WorkerSession, bell: tuple[Bell, Fetcher]
) -> None:
    """Only workers that serve all queues have a use for it."""
    one, fetcher = bell
    one._is_choosy = True
    await broker.redis.lpush(session.keys.bell("*"), "1")
    listening = asyncio.create_task(one.run_once())
    await asyncio.sleep(0.05)
    assert fetcher.went_dry.is_set()
    await broker.redis.lpush(session.keys.bell("default"), "1")
    await listening
    left = [await broker.redis.llen(session.keys.bell(queue)) for queue in ("*", "default")]
    assert left == [1, 0]


async def test_a_new_queue_is_listened_to_at_once(
    broker: Broker, session: WorkerSession, bell: tuple[Bell, Fetcher]
) -> None:
    """Also by one who is just waiting for the bells of the queues before."""
    one, fetcher = bell
    listening = asyncio.create_task(one.run_once())
    await asyncio.sleep(0.05)
    one.serve(["default", "mail"])
    await listening
    assert fetcher.went_dry.is_set()
    await broker.redis.lpush(session.keys.bell("mail"), "1")
    await one.run_once()
    assert not fetcher.went_dry.is_set()


async def test_every_partition_can_wait_at_once(
    broker: Broker, session: WorkerSession, settings: Settings
) -> None:
    """However small the pool is: who waits for a bell must not wait for a connection first."""
    redis = settings.redis.model_copy(update={"pool_size": 1})
    queue = settings.queue.model_copy(update={"partitions": 3})
    several = settings.model_copy(update={"redis": redis, "queue": queue})
    blocking = open_redis(several, blocks_seconds=BLOCK_SECONDS)
    keys = [f"{session.keys.prefix}wake:{number}" for number in range(4)]
    waiting = [asyncio.create_task(blocking.blpop([key], timeout=BLOCK_SECONDS)) for key in keys]
    await broker.redis.lpush(keys[-1], "1")
    async with asyncio.timeout(2):
        assert await waiting[-1] == (keys[-1].encode(), b"1")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await blocking.aclose()


async def test_without_a_broker_both_say_so(
    session: WorkerSession, bell: tuple[Bell, Fetcher]
) -> None:
    """The error is one that their loops wait upon."""
    settings = Settings(redis=RedisSettings(url="unix:///nonexistent/socket"))
    redis = open_redis(settings, blocks_seconds=BLOCK_SECONDS)
    _, fetcher = bell
    with pytest.raises(BrokerUnavailableError):
        await Control(redis, session, print).run_once()
    with pytest.raises(BrokerUnavailableError):
        await Bell(redis, session, fetcher, is_choosy=False).run_once()
    await redis.aclose()
