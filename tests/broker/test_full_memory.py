"""A broker whose memory is full refuses new tasks whole, and drains."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench import CLOCK, LEASE_MS, Bench, changes, complete, fail, hold, release

from taskqueue_core.broker import Broker, open_redis, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.errors import BrokerFullError
from taskqueue_core.models import OutcomeStatus, Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED = OutcomeStatus.ACCEPTED


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench on a broker of its own, with tasks in it and without a byte to spare."""
    with EmbeddedBroker(tmp_path) as embedded:
        settings = with_url(Settings(), embedded.url)
        broker = Broker(open_redis(settings), settings, clock=CLOCK)
        await broker.prepare()
        bench = Bench(broker, time.time_ns() // 1_000_000 + 3_600_000)
        await bench.advance(0)
        await bench.join()
        await bench.broker.submit_many([bench.new() for _ in range(10)])
        yield bench
        await bench.redis.config_set("maxmemory", 0)
        assert await broker.inspection.audit() == []
        await broker.close()


async def fill(bench: Bench) -> None:
    await bench.redis.config_set("maxmemory", "1mb")


async def test_new_tasks_are_refused_whole(full: Bench) -> None:
    """Submissions fail before anything of them is written, and work again with memory."""
    before = await full.snapshot()
    await fill(full)
    task = full.new(payload=b'"' + b"x" * 100 + b'"', queue="mail")
    with pytest.raises(BrokerFullError, match="refuses writes"):
        await full.broker.submit(task)
    assert changes(before, await full.snapshot()) == {}
    await full.redis.config_set("maxmemory", 0)
    assert (await full.broker.submit(task)).state is TaskState.PENDING


async def test_work_goes_on(full: Bench) -> None:
    """Fetch, heartbeat and every kind of outcome go on."""
    await fill(full)
    a, b, c, d, e = (await full.fetch(5)).deliveries
    assert (await full.beat(held=[a], counters={"wait_ms:1": 1})).is_known
    assert await full.w1.complete([complete(a, b"1" * 500)]) == [ACCEPTED]
    assert await full.w1.fail([fail(b, b"e" * 500, max_retries=1, history=b"{}")]) == [ACCEPTED]
    assert await full.w1.fail([fail(c)]) == [ACCEPTED]
    assert await full.w1.release([release(d)]) == [ACCEPTED]
    assert await full.w1.hold([hold(e)]) == [ACCEPTED]


async def test_admin_that_frees_goes_on(full: Bench) -> None:
    """Clear, purge, cancel and retain free memory; retry and redrive add to it and are refused."""
    dead, _ = await full.make(TaskState.DEAD_LETTER)
    waiting = await full.submit()
    scheduled = await full.submit(scheduled_at_ms=full.now + 1)
    await fill(full)
    with pytest.raises(BrokerFullError):
        await full.broker.redrive()
    with pytest.raises(BrokerFullError):
        await full.broker.retry(dead)
    assert await full.broker.clear() == 1
    await full.broker.cancel(scheduled)
    assert await full.broker.purge(Priority.NORMAL) >= 1
    assert await full.state(waiting) is TaskState.CANCELLED
    assert await full.broker.retain() == 0
    assert await full.broker.promote() == (0, None)


async def test_lost_leases_are_recovered(full: Bench) -> None:
    """A dead worker's tasks are not stuck until there is memory again."""
    delivery = await full.start()
    await full.join(w2 := full.broker.session("w2", "i2"))
    await full.age(delivery, LEASE_MS)
    await fill(full)
    recovered = await w2.recover(1, streams=await full.streams())
    assert [d.digits for d in recovered.deliveries] == [delivery.digits]
    assert await w2.complete([complete(recovered.deliveries[0])]) == [ACCEPTED]


async def test_workers_may_leave(full: Bench) -> None:
    """A worker can leave a full broker; reading works as ever."""
    await fill(full)
    assert (await full.broker.inspection.queue_stats()).backlog == 10
    await full.w1.stop()
    assert await full.w1.deregister()
