"""Nothing dangles: after retention the namespace holds its fixed keys and no more."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, LONG_MS, Bench, complete, fail

from taskqueue_core.models import Priority
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

LARGE = b'"' + b"x" * 200 + b'"'
#: Hashes and sets of the namespace itself, the capped event stream, and the bell of new queues.
FIXED = {"meta", "stats", "types", "wake:*", "events"}


async def live(bench: Bench) -> None:
    """Let tasks end in every way there is."""
    await bench.join()
    await bench.beat(types=["echo"])
    for state in TaskState:
        for queue in ("default", "mail"):
            await bench.make(state, queue=queue, payload=LARGE)
    delivery = await bench.start(payload=LARGE)
    await bench.w1.fail([fail(delivery, LARGE, max_retries=9, history=LARGE)])
    await bench.broker.retry((await bench.make(TaskState.FAILED))[0])
    await bench.broker.pause("w1")
    await bench.broker.resume("w1")
    await bench.broker.redrive()


async def finish(bench: Bench) -> None:
    """Bring everything to an end and the worker away."""
    await bench.advance(60_000)
    await bench.beat(streams=await bench.streams())
    while deliveries := (await bench.fetch(100)).deliveries:
        await bench.w1.complete([complete(delivery, LARGE) for delivery in deliveries])
    assert await bench.w1.deregister()


async def test_back_to_the_fixed_keys(bench: Bench) -> None:
    """Every task key, index, queue, bell, registration and message is gone in the end."""
    await live(bench)
    await finish(bench)
    assert (await bench.broker.inspection.queue_stats()).backlog == 0
    await bench.advance(LONG_MS)
    while await bench.broker.retain():
        pass
    for _ in range(3):
        await bench.broker.retain()
    assert (await bench.snapshot()).keys() == FIXED


async def test_messages_and_registrations_expire(bench: Bench) -> None:
    """What belongs to a worker has an expiry, in case the worker never comes back."""
    await bench.join()
    await bench.broker.pause("w1")
    for key in (bench.keys.worker("w1"), bench.keys.control("w1")):
        assert 0 < await bench.redis.pttl(key) <= LEASE_MS


async def test_purged_tasks_leave_nothing(bench: Bench) -> None:
    """Bodies of purged tasks go with retention."""
    task_id = await bench.submit(payload=LARGE)
    await bench.broker.purge(Priority.NORMAL)
    await bench.advance(LONG_MS)
    await bench.broker.retain()
    assert await bench.state(task_id) is None
    assert not [key for key in await bench.snapshot() if key.startswith(("t:", "b:"))]
