"""register: a worker announces itself."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes

from taskqueue_core.models import HandlerInfo

pytestmark = pytest.mark.anyio


async def test_register(bench: Bench) -> None:
    """The registration lives as long as a lease and everybody hears of it."""
    before = await bench.snapshot()
    await bench.advance(5)
    answer = await bench.w1.register(
        concurrency=7,
        version="1.2.3",
        queues=["mail"],
        handlers={"echo": HandlerInfo(max_retries=2)},
        schemas=b"{}",
        process="7 host",
    )
    assert answer is None
    now = str(bench.now)
    assert changes(before, await bench.snapshot()) == {
        "w:w1": {
            "instance": "i1", "concurrency": "7", "version": "1.2.3", "queues": '["mail"]',
            "handlers": '{"echo":{"max_retries":2}}', "schemas": "{}", "process": "7 host",
                "heartbeat": now, "started": now,
        },
        "workers": {"w1": bench.now + LEASE_MS},
        "meta": {"events": "1", "epoch": now},
        "events": [
            (
                "worker.joined",
                {"worker_id": "w1", "state": "idle", "active_tasks": 0, "concurrency": 7},
            )
        ],
    }  # fmt: skip
    assert 0 < await bench.redis.pttl(bench.keys.worker("w1")) <= LEASE_MS


async def test_repeat(bench: Bench) -> None:
    """The same instance may register again: no second event, its start time kept."""
    await bench.join()
    before = await bench.snapshot()
    await bench.advance(3)
    await bench.w1.register(concurrency=4, version="1", handlers={})
    found = changes(before, await bench.snapshot())
    assert found == {
        "w:w1": {"heartbeat": str(bench.now)},
        "workers": {"w1": bench.now + LEASE_MS},
    }


async def test_name_taken(bench: Bench) -> None:
    """A live worker keeps its name; the other one hears how long at most, and changes nothing."""
    await bench.join()
    before = await bench.snapshot()
    other = bench.broker.session("w1", "i2")
    wait = await other.register(concurrency=1, version="1", handlers={})
    assert wait is not None
    assert 0 < wait <= LEASE_MS
    assert changes(before, await bench.snapshot()) == {}
    await bench.redis.delete(bench.keys.worker("w1"))
    assert await other.register(concurrency=1, version="1", handlers={}) is None


async def test_a_pause_outlives_the_registration(bench: Bench) -> None:
    """After an outage longer than the registration lives a paused worker is still paused."""
    await bench.join()
    await bench.broker.pause("w1")
    await bench.redis.delete(bench.keys.worker("w1"))
    await bench.join()
    await bench.submit()
    fetched = await bench.fetch()
    assert (fetched.is_paused, fetched.deliveries) == (True, [])
