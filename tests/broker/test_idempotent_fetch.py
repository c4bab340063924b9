"""A fetch whose reply was lost is asked again under its number, and brings the same tasks."""

from __future__ import annotations

import pytest
from bench import Bench, changes, complete, release, task_id_of

from taskqueue_core.models import Fetched, Outcome, OutcomeStatus

pytestmark = pytest.mark.anyio


async def ask(
    bench: Bench, request: int, lane: int = 0, outcomes: tuple[Outcome, ...] = ()
) -> Fetched:
    streams = await bench.streams()
    return await bench.w1.fetch(2, streams=streams, request=request, lane=lane, outcomes=outcomes)


def starts(fetched: Fetched) -> list[tuple[str, int, int]]:
    return [(d.digits, d.number, d.attempts) for d in fetched.deliveries]


async def some_tasks(bench: Bench, count: int = 6) -> None:
    await bench.join()
    for _ in range(count):
        await bench.submit(payload=b'"' + b"x" * 80 + b'"')


async def test_same_number_same_tasks(bench: Bench) -> None:
    """The same number brings the same deliveries, whole, and changes nothing."""
    await some_tasks(bench)
    first = await ask(bench, 1)
    before = await bench.snapshot()
    again = await ask(bench, 1)
    assert again.deliveries == first.deliveries
    assert changes(before, await bench.snapshot()) == {}
    assert not set(starts(await ask(bench, 2))) & set(starts(first))


async def test_lanes_are_apart(bench: Bench) -> None:
    """Two requests under way do not disturb each other."""
    await some_tasks(bench)
    zero, one = await ask(bench, 1, lane=0), await ask(bench, 2, lane=1)
    assert (await ask(bench, 1, lane=0)).deliveries == zero.deliveries
    assert (await ask(bench, 2, lane=1)).deliveries == one.deliveries


async def test_an_empty_answer_is_asked_again(bench: Bench) -> None:
    """Nothing was handed out, so the repeat may bring what has come since."""
    await bench.join()
    assert (await ask(bench, 1)).deliveries == []
    await bench.submit()
    assert len((await ask(bench, 1)).deliveries) == 1


async def test_outcomes_of_the_repeat_are_already_taken(bench: Bench) -> None:
    """Outcomes are taken once, whichever of the replies arrives."""
    delivery = await bench.start()
    await some_tasks(bench, 1)
    first = await ask(bench, 100, outcomes=(complete(delivery),))
    again = await ask(bench, 100, outcomes=(complete(delivery),))
    assert first.statuses == [OutcomeStatus.ACCEPTED]
    assert again.statuses == [OutcomeStatus.ALREADY]
    assert again.deliveries == first.deliveries


async def test_finished_tasks_do_not_come_again(bench: Bench) -> None:
    """A repeat leaves out what has ended in between."""
    await some_tasks(bench)
    kept, ended = (await ask(bench, 1)).deliveries
    await bench.w1.complete([complete(ended)])
    assert (await ask(bench, 1)).deliveries == [kept]


async def test_given_back_and_taken_again(bench: Bench) -> None:
    """A task that this worker got again by another request is not handed out twice."""
    await some_tasks(bench, 1)
    [delivery] = (await ask(bench, 1, lane=0)).deliveries
    await bench.w1.release([release(delivery)])
    [again] = (await ask(bench, 2, lane=1)).deliveries
    assert (again.digits, again.number) == (delivery.digits, 2)
    assert (await ask(bench, 1, lane=0)).deliveries == []


async def test_a_paused_worker_still_learns_what_it_was_given(bench: Bench) -> None:
    """A pause between a request and its repeat keeps nothing back."""
    await some_tasks(bench)
    first = await ask(bench, 1)
    await bench.broker.pause("w1")
    assert (await ask(bench, 1)).deliveries == first.deliveries


async def test_a_new_instance_gets_no_old_reply(bench: Bench) -> None:
    """A process that took over the name does not inherit the requests of the last one."""
    await some_tasks(bench, 2)
    old = await ask(bench, 1)
    await bench.redis.delete(bench.keys.worker("w1"))
    bench.w1 = bench.broker.session("w1", "i2")
    await bench.join()
    assert (await ask(bench, 1)).deliveries == []
    assert [owner(await bench.task(task_id_of(d))) for d in old.deliveries] == ["i1", "i1"]


def owner(task: dict[str, str]) -> str:
    return task["f"].partition(":")[2]
