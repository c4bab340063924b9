"""purge: the waiting tasks of one priority are cancelled."""

from __future__ import annotations

import pytest
from bench import Bench, changes

from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Priority
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def test_what_waits_and_only_that(bench: Bench) -> None:
    """Waiting tasks of all queues go; running, scheduled and other priorities stay."""
    running = await bench.make(TaskState.RUNNING)
    kept = [running[0], await bench.submit(priority=2)]
    kept.append(await bench.submit(scheduled_at_ms=bench.now + 1))
    gone = [await bench.submit(queue=queue) for queue in ("default", "mail", "mail")]
    before = await bench.snapshot()
    assert await bench.broker.purge(Priority.NORMAL) == 3
    after = await bench.snapshot()
    states = [await bench.state(task_id) for task_id in gone]
    assert states == [TaskState.CANCELLED] * 3
    assert TaskState.CANCELLED not in [await bench.state(task_id) for task_id in kept]
    found = changes(before, after)
    assert [row[0] for row in after["q:default:1"]] == [id_to_hex(running[0])]
    assert after["q:mail:1"] == []
    assert found["stats"] == {"backlog": "3", "finished:other:cancelled": "3"}
    assert [kind for kind, _ in found["events"]] == ["task.cancelled"] * 3


async def test_many_and_repeat(bench: Bench) -> None:
    """More than one step holds, running ones in between; the second call finds nothing."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(330)])
    await bench.fetch(100)
    assert await bench.broker.purge(Priority.NORMAL) == 230
    before = await bench.snapshot()
    assert await bench.broker.purge(Priority.NORMAL) == 0
    assert changes(before, await bench.snapshot()) == {}


async def test_younger_entries_stay(bench: Bench) -> None:
    """A step goes no further than the time of the first one: a busy queue ends the loop."""
    old = await bench.submit()
    stream = bench.keys.stream("default", 1)
    young = await bench.submit()
    [(_, first, _), (_, second, _)] = (await bench.snapshot())["q:default:1"]
    until = int(first.partition("-")[0])
    # The second entry is made anew with a later time, as both may share a millisecond.
    later = f"{int(second.partition('-')[0]) + 5}-0"
    await bench.redis.xdel(stream, second)
    await bench.redis.xadd(stream, {"i": id_to_hex(young)}, later)
    await bench.redis.hset(bench.keys.task(id_to_hex(young)), "m", later)
    keys = [bench.keys.meta, stream]
    answer = await bench.broker.scripts.call("purge", keys, ["-", until, 100])
    assert answer == [b"", 1, until]
    assert await bench.state(old) is TaskState.CANCELLED
    assert await bench.state(young) is TaskState.PENDING


async def test_empty_and_missing_streams(bench: Bench) -> None:
    """Nothing to cancel is no error."""
    assert await bench.broker.purge(Priority.LOW) == 0
    await bench.submit()
    await bench.redis.delete(bench.keys.stream("default", 0))
    assert await bench.broker.purge(Priority.LOW) == 0
