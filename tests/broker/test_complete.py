"""complete: a delivery ends with its result."""

from __future__ import annotations

import pytest
from bench import Bench, changes, complete, fail, release, stranger, task_id_of

from taskqueue_core.errors import BrokerError
from taskqueue_core.models import OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, ALREADY, STALE = OutcomeStatus.ACCEPTED, OutcomeStatus.ALREADY, OutcomeStatus.STALE
WEEK_MS = 7 * 86_400_000


async def test_small_result(bench: Bench) -> None:
    """A small result stays in the hash; the stream entry goes, the task waits for its deletion."""
    delivery = await bench.start()
    before = await bench.snapshot()
    await bench.advance(7)
    assert await bench.w1.complete([complete(delivery)]) == [ACCEPTED]
    task_id = task_id_of(delivery)
    assert changes(before, await bench.snapshot()) == {
        f"t:{delivery.digits}": {"s": "c", "e": str(bench.now), "v": "true"},
        "q:default:1": [],
        "done": {delivery.digits: bench.now + WEEK_MS},
        "stats": {"backlog": "0", "finished:other:completed": "1"},
        "meta": {"events": "4"},
        "events": [
            (
                "task.completed",
                {
                    "task_id": task_id,
                    "type": "echo",
                    "priority": "normal",
                    "state": "completed",
                    "attempts": 1,
                    "worker_id": "w1",
                    "duration_ms": 7,
                },
            )
        ],
    }


@pytest.mark.parametrize(("first", "last"), [(10, 65), (65, 10), (65, 66), (64, 64)])
async def test_value_replaces_the_last_error(bench: Bench, first: int, last: int) -> None:
    """Whatever the sizes, the result is what is read, and no key of the error is left."""
    delivery = await bench.start()
    task_id = task_id_of(delivery)
    await bench.w1.fail([fail(delivery, b"e" * first, max_retries=1)])
    assert (await bench.broker.inspection.get(task_id)).error == "e" * first
    again = (await bench.fetch()).deliveries[0]
    await bench.w1.complete([complete(again, b"1" * last)])
    task = await bench.broker.inspection.get(task_id)
    assert (task.result, task.error) == (b"1" * last, "")
    assert (f"r:{delivery.digits}" in await bench.snapshot()) == (last > 64)


async def test_repeat(bench: Bench) -> None:
    """The same outcome again is already taken, also within one call."""
    delivery = await bench.start()
    assert await bench.w1.complete([complete(delivery)] * 2) == [ACCEPTED, ALREADY]
    before = await bench.snapshot()
    assert await bench.w1.complete([complete(delivery, b"2")]) == [ALREADY]
    assert changes(before, await bench.snapshot()) == {}


async def test_fence(bench: Bench) -> None:
    """Another instance, an earlier delivery and an unknown task change nothing but a counter."""
    old = await bench.start()
    await bench.w1.release([release(old)])
    new = (await bench.fetch()).deliveries[0]
    before = await bench.snapshot()
    other = bench.broker.session("w1", "i2")
    assert await other.complete([complete(new)]) == [STALE]
    unknown = stranger(bench.broker.new_task_id())
    assert await bench.w1.complete([complete(old), complete(unknown)]) == [STALE, STALE]
    assert changes(before, await bench.snapshot()) == {"stats": {"stale": "3"}}
    assert await bench.w1.complete([complete(new)]) == [ACCEPTED]


async def test_result_of_what_was_given_back(bench: Bench) -> None:
    """A result that nobody kept is stale, not "already": the task will run again."""
    delivery = await bench.start()
    await bench.w1.release([release(delivery)])
    assert await bench.w1.complete([complete(delivery)]) == [STALE]
    assert await bench.state(task_id_of(delivery)) is TaskState.PENDING


async def test_many_in_one_call(bench: Bench) -> None:
    """Outcomes of one call are taken one by one, with one event each, in their order."""
    await bench.join()
    for queue in ("default", "mail"):
        for _ in range(50):
            await bench.submit(queue=queue)
    deliveries = (await bench.fetch(100)).deliveries
    last = len(await bench.events())
    answers = await bench.w1.complete([complete(d, b"1" * 70) for d in deliveries])
    assert answers == [ACCEPTED] * 100
    ids = [event.data["task_id"] for event in await bench.events(last)]
    assert ids == [task_id_of(delivery) for delivery in deliveries]


async def test_limits(bench: Bench) -> None:
    """More than 100 outcomes, or outcomes of another kind, are refused and nothing is written."""
    delivery = await bench.start()
    before = await bench.snapshot()
    w1 = bench.w1
    for report, make in ((w1.complete, complete), (w1.fail, fail), (w1.release, release)):
        with pytest.raises(BrokerError, match="at most 100 outcomes"):
            await report([make(delivery)] * 101)
    with pytest.raises(ValueError, match="FAIL outcome reported as COMPLETE"):
        await bench.w1.complete([fail(delivery)])
    assert await bench.snapshot() == before
