"""retain: what is over its time is deleted, with everything that belongs to it."""

from __future__ import annotations

import pytest
from bench import DAY_MS, Bench, changes, complete, fail, task_id_of

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.keys import id_to_hex
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

LARGE = b'"' + b"x" * 80 + b'"'


@pytest.mark.parametrize(
    ("state", "days"),
    [
        (TaskState.COMPLETED, 7),
        (TaskState.CANCELLED, 7),
        (TaskState.FAILED, 7),
        (TaskState.DEAD_LETTER, 30),
    ],
)
async def test_deleted_at_its_time(bench: Bench, state: TaskState, days: int) -> None:
    """An ended task is kept for its time, not a millisecond less, and then gone."""
    task_id, _ = await bench.make(state)
    await bench.advance(days * DAY_MS - 1)
    await bench.broker.retain()
    assert await bench.state(task_id) is state
    await bench.advance(1)
    assert await bench.broker.retain() == 1
    assert await bench.state(task_id) is None


async def test_everything_goes(bench: Bench) -> None:
    """Body, result and history go with the task."""
    delivery = await bench.start(payload=LARGE)
    await bench.w1.fail([fail(delivery, LARGE, max_retries=1, history=b"{}")])
    [again] = (await bench.fetch()).deliveries
    await bench.w1.complete([complete(again, LARGE)])
    parts = {f"{kind}:{delivery.digits}" for kind in "tbrh"}
    assert parts <= (await bench.snapshot()).keys()
    await bench.advance(7 * DAY_MS)
    await bench.broker.retain()
    assert not parts & (await bench.snapshot()).keys()


async def test_steps_and_repeat(bench: Bench) -> None:
    """At most 100 a call; when all is done a call deletes nothing."""
    await bench.broker.submit_many([bench.new() for _ in range(150)])
    await bench.broker.purge(bench.new().priority)
    await bench.advance(7 * DAY_MS)
    assert [await bench.broker.retain() for _ in range(3)] == [100, 50, 0]


async def test_unfinished_tasks_are_never_deleted(bench: Bench) -> None:
    """A wrong index member costs no task: only a task that ended so is deleted."""
    waiting = await bench.submit()
    dead, _ = await bench.make(TaskState.DEAD_LETTER)
    await bench.redis.zadd(bench.keys.done, {id_to_hex(waiting): 1, id_to_hex(dead): 1})
    assert await bench.broker.retain() == 2
    assert await bench.state(waiting) is TaskState.RUNNING
    assert await bench.state(dead) is TaskState.DEAD_LETTER
    assert "done" not in await bench.snapshot()


async def test_dead_letters_for_ever(settings: Settings, bench: Bench) -> None:
    """0 days keep dead letters until somebody clears them."""
    queue = settings.queue.model_copy(update={"dead_letter_retention_days": 0.0})
    keeping = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    task_id, _ = await bench.make(TaskState.DEAD_LETTER)
    await bench.redis.zadd(bench.keys.dead_letters, {id_to_hex(task_id): 1})
    assert await keeping.retain() == 0
    assert await bench.state(task_id) is TaskState.DEAD_LETTER
    await keeping.close()


async def test_unused_queue(bench: Bench) -> None:
    """A queue that is empty and unused for a day goes with its streams, groups and bell."""
    delivery = await bench.start(queue="mail")
    await bench.w1.complete([complete(delivery)])
    version = int((await bench.snapshot())["meta"]["queues_version"])
    await bench.advance(DAY_MS)
    await bench.broker.retain()
    assert "q:mail:1" in await bench.snapshot()
    await bench.advance(1)
    await bench.broker.retain()
    after = await bench.snapshot()
    assert not [key for key in after if key.startswith(("q:", "wake:mail", "queues"))]
    assert after["meta"]["queues_version"] == str(version + 1)
    assert await bench.submit(queue="mail")
    assert "q:mail:0" in await bench.snapshot()


async def test_queue_with_tasks(bench: Bench) -> None:
    """A queue that still holds a task stays and is looked at again a day later."""
    task_id = await bench.submit()
    await bench.advance(DAY_MS + 1)
    before = await bench.snapshot()
    await bench.broker.retain()
    assert changes(before, await bench.snapshot()) == {"queues": {"default": bench.now}}
    assert await bench.state(task_id) is TaskState.PENDING


async def test_unused_queue_of_a_scheduled_task(bench: Bench) -> None:
    """A task that comes due after its queue was deleted opens it again."""
    delivery = await bench.start(queue="mail", scheduled_at_ms=1)
    await bench.w1.fail([fail(delivery, max_retries=1, delay_ms=2 * DAY_MS)])
    await bench.advance(DAY_MS + 1)
    await bench.broker.retain()
    assert "q:mail:1" not in await bench.snapshot()
    await bench.advance(DAY_MS)
    await bench.join()
    await bench.fetch()
    [again] = (await bench.fetch()).deliveries
    assert task_id_of(again) == task_id_of(delivery)
