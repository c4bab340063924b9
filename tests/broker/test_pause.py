"""pause: a worker takes nothing until it is resumed."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes

from taskqueue_core.errors import NotFoundError

pytestmark = pytest.mark.anyio


async def test_pause_and_resume(bench: Bench) -> None:
    """Flag, message to the worker and event are written together."""
    await bench.join()
    start = await bench.snapshot()
    await bench.broker.pause("w1")
    paused = await bench.snapshot()
    assert changes(start, paused) == {
        "w:w1": {"paused": "1"},
        "ctl:w1": ["pause"],
        "meta": {"events": "2", "paused:w1": "1"},
        "events": [("worker.paused", {"worker_id": "w1", "state": "paused"})],
    }
    assert 0 < await bench.redis.pttl(bench.keys.control("w1")) <= LEASE_MS
    assert (await bench.beat()).is_paused
    paused = await bench.snapshot()
    await bench.broker.resume("w1")
    assert changes(paused, await bench.snapshot()) == {
        "w:w1": {"paused": "0"},
        "ctl:w1": ["pause", "resume"],
        "meta": {"events": "3", "paused:w1": None},
        "events": [("worker.resumed", {"worker_id": "w1", "state": "idle"})],
    }
    assert not (await bench.beat()).is_paused


@pytest.mark.parametrize("paused", [True, False])
async def test_repeat(bench: Bench, paused: bool) -> None:
    """Pausing a paused worker, or resuming one that works, is no error and changes nothing."""
    await bench.join()
    call = bench.broker.pause if paused else bench.broker.resume
    await call("w1")
    before = await bench.snapshot()
    await call("w1")
    assert changes(before, await bench.snapshot()) == {}


async def test_unknown(bench: Bench) -> None:
    """A worker that is not registered is not found."""
    for call in (bench.broker.pause, bench.broker.resume):
        with pytest.raises(NotFoundError, match="worker w9"):
            await call("w9")


async def test_messages_are_capped(bench: Bench) -> None:
    """A worker that does not listen collects at most 100 messages."""
    await bench.join()
    for _ in range(60):
        await bench.broker.pause("w1")
        await bench.broker.resume("w1")
    assert await bench.redis.llen(bench.keys.control("w1")) == 100
