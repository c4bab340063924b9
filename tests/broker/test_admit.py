"""admit: a client may use up a second's worth at once, then so much a second; others may too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from bench import CLOCK, Bench

from taskqueue_core.broker import Broker, open_broker, open_redis
from taskqueue_core.broker.admission import Admission, Verdict
from taskqueue_core.errors import BrokerError, BrokerUnavailableError
from taskqueue_core.settings import RedisSettings, Settings

pytestmark = pytest.mark.anyio

#: A client whose name is nobody's key.
CLIENT = "jwt:somebody}:*\x00é"


@pytest.fixture
async def admission(bench: Bench, settings: Settings) -> AsyncIterator[Admission]:
    """Yield the counters of a service that allows ten requests a second, by the bench's clock."""
    queue = settings.queue.model_copy(update={"rate_limit_rps": 10})
    limited = settings.model_copy(update={"queue": queue})
    broker = Broker(open_redis(settings), limited, clock=CLOCK)
    yield broker.admission
    await broker.close()


async def test_a_burst_and_then_the_rate(bench: Bench, admission: Admission) -> None:
    """Ten at once, the eleventh when a tenth of a second has passed, and so on."""
    verdicts = [await admission.take(CLIENT) for _ in range(11)]
    assert [verdict.remaining for verdict in verdicts] == [*range(9, -1, -1), 0]
    assert [verdict.wait_ms for verdict in verdicts] == [0] * 10 + [100]
    assert [v.whole_in_ms for v in verdicts] == [*range(100, 1_001, 100), 1_000]
    await bench.advance(99)
    assert (await admission.take(CLIENT)).wait_ms == 1
    await bench.advance(1)
    assert await admission.take(CLIENT) == Verdict(0, 0, 1_000)
    assert (await admission.take(CLIENT)).wait_ms == 100


async def test_refusals_cost_nothing(bench: Bench, admission: Admission) -> None:
    """Who keeps asking is admitted as soon as who waits."""
    for _ in range(50):
        await admission.take(CLIENT)
    await bench.advance(100)
    assert [(await admission.take(CLIENT)).wait_ms for _ in range(2)] == [0, 100]


async def test_clients_do_not_share(admission: Admission) -> None:
    """One that is refused does not hold up another, in one call as well."""
    names = [CLIENT] * 11 + ["other"]
    verdicts = await asyncio.gather(*(admission.take(name) for name in names))
    assert [verdict.wait_ms for verdict in verdicts] == [0] * 10 + [100, 0]
    assert verdicts[-1].remaining == 9


async def test_more_than_a_second_allows(bench: Bench, admission: Admission) -> None:
    """A large request is admitted to a client without debts, which then has one."""
    await admission.take(CLIENT)
    assert (await admission.take(CLIENT, 25)).wait_ms == 100
    await bench.advance(100)
    assert await admission.take(CLIENT, 25) == Verdict(0, 0, 2_500)
    await bench.advance(1_599)
    assert (await admission.take(CLIENT)).wait_ms == 1
    await bench.advance(1)
    assert (await admission.take(CLIENT)).wait_ms == 0


async def test_what_is_paid_already(bench: Bench, admission: Admission) -> None:
    """A large request that was counted as one before it was read pays the rest, in full in all."""
    await admission.take(CLIENT)
    assert await admission.take(CLIENT, 25, paid=1) == Verdict(0, 0, 2_500)
    await bench.advance(2_000)
    await admission.take(CLIENT)
    assert (await admission.take(CLIENT, 5, paid=1)).wait_ms == 0
    assert (await admission.take(CLIENT)).wait_ms == 100


@pytest.mark.parametrize("rate", [1, 3, 7, 1_000, 30_000])
async def test_any_rate(bench: Bench, settings: Settings, rate: int) -> None:
    """Rates that do not divide a second are met too: so many at once, not one less or more."""
    queue = settings.queue.model_copy(update={"rate_limit_rps": rate})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}), clock=CLOCK)
    weights = [1] * rate if rate < 10 else [rate - 2, 1, 1]
    verdicts = [await broker.admission.take(CLIENT, weight) for weight in [*weights, 1]]
    assert [verdict.wait_ms > 0 for verdict in verdicts] == [False] * len(weights) + [True]
    await broker.close()


async def test_a_counter_goes_when_it_is_paid(bench: Bench, admission: Admission) -> None:
    """Nothing is kept of clients that do not call, and only a hash of those that do."""
    keys: list[bytes] = []
    async with asyncio.timeout(30):
        # It lives for a second, which a busy machine may take to answer.
        while not keys:
            await asyncio.gather(*(admission.take(CLIENT) for _ in range(10)))
            pattern = bench.keys.prefix + "rate:*"
            keys = [key async for key in bench.redis.scan_iter(pattern, count=1000)]
    assert [b"somebody" in key for key in keys] == [False]
    assert await bench.redis.pttl(keys[0]) <= 1000
    assert await bench.redis.pttl(keys[0]) != -1


async def test_processes_share(settings: Settings, bench: Bench, admission: Admission) -> None:
    """What one process admitted counts in the other."""
    queue = settings.queue.model_copy(update={"rate_limit_rps": 10})
    other = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}), clock=CLOCK)
    both = [admission, other.admission] * 50
    verdicts = await asyncio.gather(*(one.take(CLIENT) for one in both))
    assert sum(verdict.wait_ms == 0 for verdict in verdicts) == 10
    await other.close()


async def test_more_than_a_hundred(bench: Bench) -> None:
    """A call with more than 100 requests is refused before anything is counted."""
    keys = [bench.keys.meta, *[bench.keys.rate("x")] * 101]
    with pytest.raises(BrokerError, match="at most 100 requests"):
        await bench.broker.scripts.call("admit", keys, [1, 0] * 101)
    assert not await bench.redis.exists(bench.keys.rate("x"))


async def test_an_outage_is_learned_once_a_second(settings: Settings) -> None:
    """Nobody waits for a Redis that did not answer a moment ago; then it is asked again."""
    now = 100.0
    redis = RedisSettings(url="redis://127.0.0.1:1", max_retries=0)
    broker = open_broker(settings.model_copy(update={"redis": redis}))
    admission = Admission(broker.scripts, broker.partitions, clock=lambda: now)
    messages = []
    for moment in (100.0, 100.9, 101.1):
        now = moment
        with pytest.raises(BrokerUnavailableError) as caught:
            await admission.take(CLIENT)
        messages.append("did not say" in str(caught.value))
    assert messages == [False, True, False]
    await admission.close()
    await broker.close()
