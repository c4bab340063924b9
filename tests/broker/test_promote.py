"""promote: due tasks move from the schedule to their streams."""

from __future__ import annotations

import pytest
from bench import Bench, changes, fail, task_id_of

from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def test_promote_a_scheduled_task(bench: Bench) -> None:
    """At its time, and not before, the task waits in its stream and its queue is rung."""
    task_id = await bench.submit(scheduled_at_ms=bench.now + 10, priority=3, queue="mail")
    created = bench.now
    await bench.redis.delete(bench.keys.bell("mail"))
    await bench.advance(9)
    assert await bench.broker.promote() == (0, 1)
    await bench.advance(1)
    before = await bench.snapshot()
    assert await bench.broker.promote() == (1, None)
    after = await bench.snapshot()
    [(digits, entry, _)] = after["q:mail:3"]
    found = changes(before, after)
    [(kind, data)] = found.pop("events")
    assert (kind, data["state"], digits) == ("task.queued", "pending", id_to_hex(task_id))
    assert found == {
        f"t:{digits}": {"s": "p", "m": entry, "u": str(bench.now)},
        "sched": None,
        "q:mail:3": [(digits, entry, "")],
        "queues": {"mail": bench.now},
        "wake:mail": ["1"],
        "meta": {"events": "2"},
    }
    task = await bench.broker.inspection.get(task_id)
    assert (task.created_at_ms, task.state) == (created, TaskState.PENDING)


async def test_retried_task_keeps_its_creation_time(bench: Bench) -> None:
    """The first entry id held the creation time; it outlives the entry."""
    delivery = await bench.start()
    await bench.w1.fail([fail(delivery, max_retries=1)])
    assert (await bench.broker.promote())[0] == 1
    task = await bench.task(task_id_of(delivery))
    assert (task["c"], task["a"]) == (str(delivery.enqueued_at_ms), "1")


async def test_earliest_first_in_steps(bench: Bench) -> None:
    """A hundred a call, the earliest first, until nothing is due."""
    ids = [await bench.submit(scheduled_at_ms=bench.now + 300 - n) for n in range(150)]
    await bench.advance(300)
    assert await bench.broker.promote() == (100, 0)
    assert await bench.broker.promote() == (50, None)
    rows = (await bench.snapshot())["q:default:1"]
    assert [row[0] for row in rows] == [id_to_hex(task_id) for task_id in reversed(ids)]


async def test_repeat(bench: Bench) -> None:
    """Promoting again finds nothing to do."""
    await bench.submit(scheduled_at_ms=bench.now + 10)
    await bench.advance(10)
    await bench.broker.promote()
    before = await bench.snapshot()
    assert await bench.broker.promote() == (0, None)
    assert changes(before, await bench.snapshot()) == {}


async def test_dangling_members(bench: Bench) -> None:
    """Members without a task that waits for its time are dropped and counted."""
    running = await bench.start()
    await bench.redis.zadd(bench.keys.schedule, {"0" * 32: 1, running.digits: 2})
    assert await bench.broker.promote() == (2, None)
    assert (await bench.broker.inspection.stats())["orphans"] == 2
    assert await bench.state(task_id_of(running)) is TaskState.RUNNING


async def test_incomplete_hash(bench: Bench) -> None:
    """A task that lost its creation time is promoted all the same, and blocks nobody."""
    task_id = await bench.submit(scheduled_at_ms=bench.now + 10)
    await bench.redis.hdel(bench.keys.task(id_to_hex(task_id)), "c")
    await bench.advance(10)
    assert (await bench.broker.promote())[0] == 1
    assert (await bench.task(task_id))["c"] == str(bench.now)
