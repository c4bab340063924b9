"""clear: dead letters are given up."""

from __future__ import annotations

import pytest
from bench import DAY_MS, Bench, changes, fail

from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def test_clear(bench: Bench) -> None:
    """A dead letter becomes failed, keeps its error, and is deleted in time."""
    task_id, _ = await bench.make(TaskState.DEAD_LETTER)
    before = await bench.snapshot()
    assert await bench.broker.clear() == 1
    found = changes(before, await bench.snapshot())
    digits = id_to_hex(task_id)
    [(kind, data)] = found.pop("events")
    assert (kind, data["state"], data["reason"]) == ("task.failed", "failed", "cleared")
    assert found == {
        f"t:{digits}": {"s": "f", "u": str(bench.now)},
        "dlq": None,
        "done": {digits: bench.now + 7 * DAY_MS},
        "meta": {"events": "6"},
    }
    assert (await bench.broker.inspection.get(task_id)).error == "broken"


async def test_many_and_repeat(bench: Bench) -> None:
    """More than one step holds; the second call has nothing to do."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(205)])
    while deliveries := (await bench.fetch(100)).deliveries:
        await bench.w1.fail([fail(delivery) for delivery in deliveries])
    assert await bench.broker.clear() == 205
    before = await bench.snapshot()
    assert await bench.broker.clear() == 0
    assert changes(before, await bench.snapshot()) == {}


async def test_up_to_a_time(bench: Bench) -> None:
    """Only what died by the time of the first step is given up."""
    old, _ = await bench.make(TaskState.DEAD_LETTER)
    died = bench.now
    await bench.advance(1)
    young, _ = await bench.make(TaskState.DEAD_LETTER)
    answer = await bench.broker.scripts.call("clear", [bench.keys.meta], [died, 100])
    assert answer == [1, died]
    assert await bench.state(old) is TaskState.FAILED
    assert await bench.state(young) is TaskState.DEAD_LETTER


async def test_dangling_members(bench: Bench) -> None:
    """Members that are no dead letters are dropped; their tasks stay as they are."""
    task_id = await bench.submit()
    await bench.redis.zadd(bench.keys.dead_letters, {id_to_hex(task_id): 1, "0" * 32: 1})
    await bench.broker.clear()
    assert await bench.state(task_id) is TaskState.PENDING
    assert "dlq" not in await bench.snapshot()
