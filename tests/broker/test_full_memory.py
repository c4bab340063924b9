"""A broker whose memory is full refuses new tasks whole, and drains, also by who joins only now."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from bench import CLOCK, LEASE_MS, Bench, changes, complete, fail, hold, release

from taskqueue_core.broker import Broker, open_broker, open_redis, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.config import child_environ
from taskqueue_core.errors import BrokerFullError
from taskqueue_core.models import NewTask, OutcomeStatus, Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_server.app import create_app

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


async def test_a_worker_may_join(full: Bench) -> None:
    """One that has never been there, whose scripts Redis does not know, drains the queue."""
    await fill(full)
    await full.redis.script_flush()
    joining = Broker(open_redis(full.broker.settings), full.broker.settings, clock=CLOCK)
    await joining.prepare()
    w2 = joining.session("w2", "i2")
    await full.join(w2)
    deliveries = (await full.fetch(100, session=w2)).deliveries
    assert len(deliveries) == 10
    assert await w2.complete([complete(one) for one in deliveries]) == [ACCEPTED] * 10
    assert await w2.deregister()
    await joining.close()


async def test_workers_may_be_paused(full: Bench) -> None:
    """An operator can stop a worker, and have it go on."""
    await fill(full)
    await full.broker.pause("w1")
    assert (await full.fetch(1)).deliveries == []
    await full.broker.resume("w1")
    assert len((await full.fetch(1)).deliveries) == 1


async def test_a_new_namespace_waits_for_memory(full: Bench) -> None:
    """Nothing is begun that could not go on: whoever starts is told that Redis is full."""
    await fill(full)
    queue = full.broker.settings.queue.model_copy(update={"namespace": "new"})
    broker = open_broker(full.broker.settings.model_copy(update={"queue": queue}))
    with pytest.raises(BrokerFullError):
        await broker.prepare()
    assert await full.redis.keys("tq:{new.0}:*") == []
    await broker.close()


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a client of a full broker by whose own clock ten tasks wait."""
    with EmbeddedBroker(tmp_path) as embedded:
        broker = open_broker(with_url(Settings(), embedded.url))
        await broker.prepare()
        tasks = [NewTask(id=broker.new_task_id(), type="echo") for _ in range(10)]
        await broker.submit_many(tasks)
        await broker.redis.config_set("maxmemory", "1mb")
        yield broker
        await broker.redis.config_set("maxmemory", 0)
        assert await broker.inspection.audit() == []
        await broker.close()


async def test_a_worker_process_starts_and_drains(plain: Broker) -> None:
    """From its start to its end it needs no memory that there is not."""
    environ = child_environ(plain.settings, os.environ)
    command = [sys.executable, "-m", "taskqueue_core.worker"]
    async with await anyio.open_process(command, env=environ, stdout=None, stderr=None) as worker:
        try:
            with anyio.fail_after(20):
                while (await plain.inspection.queue_stats()).backlog:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            worker.send_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                assert await worker.wait() == 0
        finally:
            if worker.returncode is None:
                worker.kill()
    assert await plain.redis.zcard(plain.partitions[0].done) == 10
    assert await plain.inspection.workers() == []


async def test_a_server_starts(plain: Broker) -> None:
    """It answers what only reads, and 503 to submissions."""
    app = create_app(plain.settings)
    transport = httpx.ASGITransport(app)
    async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        assert (await http.get("/admin/health")).status_code == 200
        assert (await http.get("/api/v1/tasks")).json()["totals"]["queued"] == 10
        answer = await http.post("/api/v1/tasks", json={"type": "echo"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"].endswith("broker-full")
