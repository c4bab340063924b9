"""Which task is next: strict priority first, then the order of submission."""

from __future__ import annotations

import random

import pytest
from bench import Bench, complete, fail, task_id_of

pytestmark = pytest.mark.anyio


async def test_strict_priority(bench: Bench) -> None:
    """No task of a lower priority is handed out while a higher one waits, in any batch size."""
    await bench.join()
    order = [random.Random(7).randrange(4) for _ in range(60)]
    for priority in order:
        await bench.submit(priority=priority, queue="mail" if priority % 2 else "default")
    taken: list[int] = []
    for wanted in (1, 7, 20, 32):
        fetched = await bench.fetch(wanted)
        taken += [delivery.priority for delivery in fetched.deliveries]
    assert taken == sorted(order, reverse=True)


async def test_first_in_first_out(bench: Bench) -> None:
    """Within a queue and priority tasks start in the order they were accepted."""
    await bench.join()
    ids = [await bench.submit() for _ in range(10)]
    started = [task_id_of(d) for n in (3, 7) for d in (await bench.fetch(n)).deliveries]
    assert started == ids


async def test_a_late_urgent_task_goes_first(bench: Bench) -> None:
    """What is more urgent overtakes what has waited longer."""
    await bench.join()
    await bench.submit(priority=0)
    urgent = await bench.submit(priority=3)
    assert [task_id_of(d) for d in (await bench.fetch(1)).deliveries] == [urgent]


async def test_a_due_urgent_task_goes_first(bench: Bench) -> None:
    """A task that comes due in this very call takes its place by priority."""
    await bench.join()
    await bench.submit()
    due = await bench.submit(priority=3, scheduled_at_ms=bench.now + 5)
    await bench.advance(5)
    assert [task_id_of(d) for d in (await bench.fetch(1)).deliveries] == [due]


async def test_queues_in_the_order_of_the_call(bench: Bench) -> None:
    """Among queues of one priority the caller's order decides; other queues are not touched."""
    await bench.join()
    ids = {queue: await bench.submit(queue=queue) for queue in ("a", "b", "c")}
    streams = [bench.keys.stream(queue, 1) for queue in ("b", "a")]
    fetched = await bench.fetch(5, streams=streams)
    assert [task_id_of(d) for d in fetched.deliveries] == [ids["b"], ids["a"]]
    assert [d.queue for d in fetched.deliveries] == ["b", "a"]


async def test_a_retried_task_queues_up_again(bench: Bench) -> None:
    """A retry waits behind those that came meanwhile."""
    first = await bench.start()
    await bench.w1.fail([fail(first, max_retries=1)])
    second = await bench.submit()
    await bench.broker.promote()
    [one, two] = (await bench.fetch(2)).deliveries
    assert (task_id_of(one), two.digits) == (second, first.digits)
    await bench.w1.complete([complete(one), complete(two)])
