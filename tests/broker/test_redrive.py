"""redrive: every dead letter goes back to its queue."""

from __future__ import annotations

from typing import Any

import pytest
from bench import Bench, changes, fail, task_id_of

from taskqueue_core.broker import DeadLetterFilter
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

PENDING = TaskState.PENDING


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


async def step(bench: Bench, before: str | int, most: int, *place: str | bytes) -> list[Any]:
    """Redrive any dead letters behind a place, as the broker does."""
    arguments = [before, most, "token", *(place or ("", "")), "", "", "", ""]
    answer = await bench.broker.scripts.call("redrive", [bench.keys.meta], arguments)
    return list(answer)


async def test_those_that_die_meanwhile_stay(bench: Bench) -> None:
    """A step takes no dead letter younger than the first step's time: the loop ends."""
    await bury(bench, 3)
    looked, before, moved, *place = await step(bench, "", 2)
    assert (looked, before, moved) == (2, bench.now, 2)
    await bench.advance(1)
    await bench.w1.fail([fail(d) for d in (await bench.fetch(2)).deliveries])
    assert (await step(bench, before, 2, *place))[:3] == [1, before, 1]
    assert (await step(bench, before, 2, *place))[:3] == [0, before, 0]
    assert (await bench.broker.inspection.queue_stats()).dead_letter_count == 2


async def test_oldest_first(bench: Bench) -> None:
    """The longest dead goes first."""
    first, _ = await bench.make(TaskState.DEAD_LETTER)
    await bench.advance(1)
    second, _ = await bench.make(TaskState.DEAD_LETTER)
    await step(bench, "", 1)
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


async def bury_kinds(bench: Bench, kinds: list[tuple[str, str, bytes]]) -> dict[str, int]:
    """Make dead letters of these types, queues and errors; id -> number."""
    made = {}
    for number, (task_type, queue, error) in enumerate(kinds):
        delivery = await bench.start(task_type, queue=queue)
        await bench.w1.fail([fail(delivery, error)])
        made[task_id_of(delivery)] = number
        await bench.advance(1)
    return made


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (DeadLetterFilter(type="mail"), {0, 3}),
        (DeadLetterFilter(queue="slow"), {1, 3}),
        (DeadLetterFilter(error="time"), {0, 1}),
        (DeadLetterFilter(type="mail", error="refused"), {3}),
        (DeadLetterFilter(reason="max_retries"), {0, 1, 2, 3}),
        (DeadLetterFilter(reason="poison"), set()),
    ],
)
async def test_those_that_are_wanted(
    bench: Bench, wanted: DeadLetterFilter, expected: set[int]
) -> None:
    """A filter sends back what it finds, as it was counted before, and leaves the others dead."""
    kinds = [
        ("mail", "default", b"timeout"),
        ("http", "slow", b"a timeout"),
        ("http", "default", b"refused"),
        ("mail", "slow", b"refused" + b"!" * 80),
    ]
    made = await bury_kinds(bench, kinds)
    assert await bench.broker.dead_letters.count(wanted) == len(expected)
    assert await bench.broker.redrive(wanted) == len(expected)
    back = {number for task_id, number in made.items() if await bench.state(task_id) is PENDING}
    assert back == expected
    assert await bench.broker.redrive(wanted) == 0


async def test_a_filter_goes_through_all_steps(bench: Bench) -> None:
    """Those it passes over do not keep it from those behind them, at one time of death or many."""
    await bury(bench, 150)
    await bench.join()
    for _ in range(120):
        await bench.submit("rare")
    while deliveries := (await bench.fetch(100)).deliveries:
        await bench.w1.fail([fail(delivery) for delivery in deliveries])
    wanted = DeadLetterFilter(type="rare")
    assert await bench.broker.dead_letters.count(wanted) == 120
    assert await bench.broker.redrive(wanted) == 120
    assert (await bench.broker.inspection.queue_stats()).dead_letter_count == 150


async def test_a_step_again(bench: Bench) -> None:
    """A step whose answer was lost moves nothing twice when it is made again."""
    await bury(bench, 3)
    last = len(await bench.events())
    await step(bench, "", 100)
    looked, _, moved, *_ = await step(bench, "", 100)
    assert (looked, moved) == (0, 0)
    assert [event.type for event in await bench.events(last)] == ["task.queued"] * 3
