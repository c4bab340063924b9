"""hold: a task that this worker has no handler for waits aside, longer each time."""

from __future__ import annotations

import pytest
from bench import Bench, changes, fail, hold, task_id_of

from taskqueue_core.codec import format_time
from taskqueue_core.models import OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, ALREADY = OutcomeStatus.ACCEPTED, OutcomeStatus.ALREADY


async def test_first_hold(bench: Bench) -> None:
    """The task is scheduled 50 ms ahead, without an attempt; its event says so."""
    delivery = await bench.start()
    before = await bench.snapshot()
    assert await bench.w1.hold([hold(delivery)]) == [ACCEPTED]
    now, due = str(bench.now), bench.now + 50
    assert changes(before, await bench.snapshot()) == {
        f"t:{delivery.digits}": {"s": "s", "a": "0", "e": now, "i": now, "n": str(due)},
        "q:default:1": [],
        "sched": {delivery.digits: due},
        "stats": {"misrouted": "1"},
        "meta": {"events": "4"},
        "events": [
            (
                "task.queued",
                {
                    "task_id": task_id_of(delivery),
                    "type": "echo",
                    "priority": "normal",
                    "state": "scheduled",
                    "attempts": 0,
                    "scheduled_at": format_time(due),
                },
            )
        ],
    }


async def test_waits_grow_to_the_cap(bench: Bench) -> None:
    """Each wait is as long as all before together, 50 ms at least, the cap at most."""
    delivery = await bench.start()
    waits = []
    for _ in range(8):
        await bench.w1.hold([hold(delivery, cap_ms=700)])
        wait = (await bench.snapshot())["sched"][delivery.digits] - bench.now
        waits.append(wait)
        await bench.advance(wait)
        delivery = (await bench.fetch()).deliveries[0]
    assert waits == [50, 50, 100, 200, 400, 700, 700, 700]
    assert (delivery.attempts, delivery.number) == (1, 9)


async def test_given_up(bench: Bench) -> None:
    """Longer than allowed it becomes a dead letter, its last error replaced, its hash small."""
    await bench.join()
    delivery = await bench.start("t" * 64)
    await bench.w1.fail([fail(delivery, b"e" * 65, max_retries=1)])
    delivery = (await bench.fetch()).deliveries[0]
    await bench.w1.hold([hold(delivery, longest_ms=1_000)])
    await bench.advance(1_001)
    delivery = (await bench.fetch()).deliveries[0]
    assert await bench.w1.hold([hold(delivery, longest_ms=1_000)]) == [ACCEPTED]
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.reason, task.attempts) == (TaskState.DEAD_LETTER, "unhandled", 1)
    assert task.error == "no worker handles the type " + "t" * 64
    key = bench.keys.task(delivery.digits)
    assert await bench.redis.object("ENCODING", key) == b"listpack"


async def test_a_failed_attempt_ends_the_wait(bench: Bench) -> None:
    """A worker that has the handler starts the measure anew."""
    delivery = await bench.start()
    await bench.w1.hold([hold(delivery)])
    await bench.advance(50)
    delivery = (await bench.fetch()).deliveries[0]
    await bench.w1.fail([fail(delivery, max_retries=1)])
    assert "i" not in await bench.task(task_id_of(delivery))


async def test_repeat(bench: Bench) -> None:
    """The same hold again is already taken."""
    delivery = await bench.start()
    assert await bench.w1.hold([hold(delivery)] * 2) == [ACCEPTED, ALREADY]
    before = await bench.snapshot()
    await bench.advance(10)
    assert await bench.w1.hold([hold(delivery)]) == [ALREADY]
    assert changes(before, await bench.snapshot()) == {}
