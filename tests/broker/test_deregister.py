"""deregister: a worker leaves, or is removed after its registration ran out."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes, complete

from taskqueue_core.keys import GROUP

pytestmark = pytest.mark.anyio


async def consumers(bench: Bench) -> set[str]:
    return {
        row["name"].decode()
        for stream in await bench.streams()
        for row in await bench.redis.xinfo_consumers(stream, GROUP)
    }


async def test_leave(bench: Bench) -> None:
    """Registration, membership, messages, flags and consumers go; the event names the size."""
    delivery = await bench.start()
    await bench.w1.complete([complete(delivery)])
    await bench.broker.pause("w1")
    before = await bench.snapshot()
    assert await consumers(bench) == {"w1"}
    assert await bench.w1.deregister()
    assert await consumers(bench) == set()
    assert changes(before, await bench.snapshot()) == {
        "w:w1": None,
        "ctl:w1": None,
        "workers": None,
        "meta": {"events": "6", "paused:w1": None},
        "events": [
            (
                "worker.left",
                {
                    "worker_id": "w1", "state": "shutting_down", "active_tasks": 0,
                    "concurrency": 4,
                },
            )
        ],
    }  # fmt: skip


async def test_repeat(bench: Bench) -> None:
    """Leaving again is answered alike and emits nothing."""
    await bench.join()
    assert await bench.w1.deregister()
    before = await bench.snapshot()
    assert await bench.w1.deregister()
    assert changes(before, await bench.snapshot()) == {}


async def test_tasks_still_held(bench: Bench) -> None:
    """A consumer with pending entries is never deleted: its tasks could not be recovered."""
    delivery = await bench.start()
    before = await bench.snapshot()
    assert not await bench.w1.deregister()
    assert changes(before, await bench.snapshot()) == {}
    await bench.w1.complete([complete(delivery)])
    assert await bench.w1.deregister()


async def test_another_instance(bench: Bench) -> None:
    """A process that has lost its name to another does not remove that one."""
    await bench.join()
    before = await bench.snapshot()
    assert not await bench.broker.session("w1", "i2").deregister()
    assert changes(before, await bench.snapshot()) == {}


async def test_expel(bench: Bench) -> None:
    """A worker is removed by others once its registration ran out and its tasks are recovered."""
    delivery = await bench.start()
    assert not await bench.broker.expel("w1")
    await bench.redis.delete(bench.keys.worker("w1"))
    assert not await bench.broker.expel("w1"), "its membership has not expired yet"
    await bench.advance(LEASE_MS)
    assert not await bench.broker.expel("w1"), "its task is not recovered yet"
    w2 = bench.broker.session("w2", "i2")
    await bench.join(w2)
    await bench.age(delivery, LEASE_MS)
    await w2.recover(1, streams=await bench.streams())
    assert await bench.broker.expel("w1")
    assert await consumers(bench) == {"w2"}
    *_, (kind, data) = (await bench.snapshot())["events"]
    assert (kind, data["worker_id"], data["concurrency"]) == ("worker.left", "w1", 0)


async def test_deleted_stream(bench: Bench) -> None:
    """A stream without its group does not keep a worker from leaving."""
    await bench.join()
    await bench.submit(priority=3)
    await bench.redis.delete(bench.keys.stream("default", 0))
    assert await bench.w1.deregister()
