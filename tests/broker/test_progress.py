"""Progress: listeners hear of it, the task does not change, and only its worker may tell."""

from __future__ import annotations

import pytest
from bench import Bench, changes, complete, task_id_of

from taskqueue_core.broker.sessions import Report
from taskqueue_core.errors import BrokerError

pytestmark = pytest.mark.anyio


async def test_progress_is_an_event_and_nothing_else(bench: Bench) -> None:
    """A report changes the event number and what makes it safe to repeat."""
    delivery = await bench.start("compute", priority=3)
    before = await bench.snapshot()
    assert await bench.w1.progress([Report(delivery, 0.25, "a quarter")], request=7) == [True]
    assert changes(before, await bench.snapshot()) == {
        "meta": {"events": "4"},
        "w:w1": {"told": "7"},
        "events": [
            (
                "task.progress",
                {
                    "task_id": task_id_of(delivery),
                    "type": "compute",
                    "priority": "critical",
                    "state": "running",
                    "attempts": 1,
                    "worker_id": "w1",
                    "fraction": 0.25,
                    "message": "a quarter",
                },
            )
        ],
    }


async def test_a_repeat_tells_nothing_new(bench: Bench) -> None:
    """A call whose answer was lost is made again, with the same answer."""
    delivery = await bench.start()
    for _ in range(2):
        assert await bench.w1.progress([Report(delivery, 1.0)], request=1) == [True]
    assert await bench.w1.progress([Report(delivery, 1.0)], request=2) == [True]
    told = [event for event in await bench.events() if event.type == "task.progress"]
    assert [event.data["fraction"] for event in told] == [1, 1]
    assert all("message" not in event.data for event in told)


async def test_only_the_worker_that_runs_it_may_tell(bench: Bench) -> None:
    """Not a former one, nor one with an older delivery, nor after the end."""
    stale = await bench.start()
    await bench.age(stale, 20_000)
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    (taken,) = (await other.recover(1, streams=await bench.streams())).deliveries
    last = len(await bench.events())
    assert await bench.w1.progress([Report(stale, 0.5)], request=1) == [False]
    assert await other.progress([Report(stale, 0.5), Report(taken, 0.5)], request=1) == [
        False,
        True,
    ]
    await other.complete([complete(taken)])
    assert await other.progress([Report(taken, 0.9)], request=2) == [False]
    types = [event.type for event in await bench.events(last)]
    assert types == ["task.progress", "task.completed"]


async def test_a_worker_without_registration_leaves_no_trace(bench: Bench) -> None:
    """What has run out is not made again, without a time to live."""
    delivery = await bench.start()
    await bench.redis.delete(bench.keys.worker("w1"))
    assert await bench.w1.progress([Report(delivery, 0.5)], request=1) == [False]
    assert not await bench.redis.exists(bench.keys.worker("w1"))


async def test_many_are_told_in_parts(bench: Bench) -> None:
    """A call takes a hundred, and refuses more before it has told anything."""
    delivery = await bench.start()
    last = len(await bench.events())
    with pytest.raises(BrokerError, match="at most 100"):
        await bench.w1.progress([Report(delivery, 0.5)] * 101, request=1)
    assert await bench.events(last) == []
