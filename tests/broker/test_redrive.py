"""redrive: every dead letter goes back to its queue."""

from __future__ import annotations

import pytest
from bench import Bench, changes, fail

from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def bury(bench: Bench, count: int) -> None:
    """Make dead letters, each a millisecond younger than the one before."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(count)])
    while deliveries := (await bench.fetch(100)).deliveries:
        await bench.advance(1)
        await bench.w1.fail([fail(delivery) for delivery in deliveries])


async def test_all_of_them(bench: Bench) -> None:
    """More than one step holds, each once, then nothing is left to do."""
    await bury(bench, 250)
    last = len(await bench.events())
    assert await bench.broker.redrive() == 250
    stats = await bench.broker.inspection.queue_stats()
    assert (stats.dead_letter_count, stats.backlog) == (0, 250)
    assert [e.type for e in await bench.events(last)] == ["task.queued"] * 250
    before = await bench.snapshot()
    assert await bench.broker.redrive() == 0
    assert changes(before, await bench.snapshot()) == {}


async def test_those_that_die_meanwhile_stay(bench: Bench) -> None:
    """A step takes no dead letter younger than the first step's time: the loop ends."""
    await bury(bench, 3)
    call = ("redrive", [bench.keys.meta])
    moved, before_ms = await bench.broker.scripts.call(*call, ["", 2, "token"])
    assert (moved, before_ms) == (2, bench.now)
    await bench.advance(1)
    await bench.w1.fail([fail(d) for d in (await bench.fetch(2)).deliveries])
    assert await bench.broker.scripts.call(*call, [before_ms, 2, "token"]) == [1, before_ms]
    assert await bench.broker.scripts.call(*call, [before_ms, 2, "token"]) == [0, before_ms]
    assert (await bench.broker.inspection.queue_stats()).dead_letter_count == 2


async def test_oldest_first(bench: Bench) -> None:
    """The longest dead goes first."""
    first, _ = await bench.make(TaskState.DEAD_LETTER)
    await bench.advance(1)
    second, _ = await bench.make(TaskState.DEAD_LETTER)
    await bench.broker.scripts.call("redrive", [bench.keys.meta], ["", 1, "token"])
    assert await bench.state(first) is TaskState.PENDING
    assert await bench.state(second) is TaskState.DEAD_LETTER


async def test_dangling_members(bench: Bench) -> None:
    """Members that are no dead letters are dropped and counted, and do not stop the rest."""
    task_id, _ = await bench.make(TaskState.DEAD_LETTER)
    members = {f"{n:032x}": n for n in range(120)}
    await bench.redis.zadd(bench.keys.dead_letters, members)
    await bench.broker.redrive()
    assert await bench.state(task_id) is TaskState.PENDING
    assert (await bench.broker.inspection.stats())["orphans"] == 120
