"""survey: what waits, since when, and for want of what."""

from __future__ import annotations

import pytest
from bench import Bench, complete, hold

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.broker.inspection import MAX_HELD_TYPES
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Priority, Survey
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

NOTHING = Survey(oldest_ms=dict.fromkeys(Priority, 0), waiting={}, held={})


async def waited_ms(bench: Bench, task_id: str) -> int:
    """Return how long a task has been in its stream by the bench's clock."""
    entry = (await bench.task(task_id))["m"]
    return bench.now - int(entry.partition("-")[0])


async def test_empty(bench: Bench) -> None:
    """A fresh namespace has nothing that waits."""
    assert await bench.broker.inspection.survey() == NOTHING


@pytest.mark.parametrize("state", [s for s in TaskState if s is not TaskState.PENDING])
async def test_what_does_not_wait(bench: Bench, state: TaskState) -> None:
    """A task in any other state is none that waits."""
    await bench.make(state)
    assert await bench.broker.inspection.survey() == NOTHING


async def test_the_oldest_of_each_priority(bench: Bench) -> None:
    """Over all queues it is the one that was queued first, until it starts."""
    first = await bench.submit(priority=1, queue="mail")
    second = await bench.submit(priority=1)
    third = await bench.submit(priority=3)
    await bench.advance(5_000)
    survey = await bench.broker.inspection.survey()
    assert survey.oldest_ms == {
        Priority.CRITICAL: await waited_ms(bench, third),
        Priority.HIGH: 0,
        Priority.NORMAL: await waited_ms(bench, first),
        Priority.LOW: 0,
    }
    assert survey.waiting == {"mail": 1, "default": 2}
    await bench.join()
    [delivery] = (await bench.fetch(streams=[bench.keys.stream("mail", 1)])).deliveries
    survey = await bench.broker.inspection.survey()
    assert survey.oldest_ms[Priority.NORMAL] == await waited_ms(bench, second)
    assert survey.waiting == {"default": 2}
    await bench.w1.complete([complete(delivery)])
    assert (await bench.broker.inspection.survey()).waiting == {"default": 2}


async def test_what_runs_does_not_wait(bench: Bench) -> None:
    """Of a stream with a task that runs, the one behind it has waited longest."""
    await bench.join()
    first = await bench.submit()
    await bench.fetch()
    # Entries are dated by the real time: until one is of a later millisecond.
    while await waited_ms(bench, second := await bench.submit()) == await waited_ms(bench, first):
        await bench.fetch(100)
    survey = await bench.broker.inspection.survey()
    assert survey.waiting == {"default": 1}
    assert survey.oldest_ms[Priority.NORMAL] == await waited_ms(bench, second)


async def test_a_clock_that_goes_back(bench: Bench) -> None:
    """Nothing has waited for less than no time."""
    await bench.submit()
    await bench.advance(-2 * 3_600_000)
    assert (await bench.broker.inspection.survey()).oldest_ms[Priority.NORMAL] == 0


async def test_held_tasks(bench: Bench) -> None:
    """What was put aside for want of a handler is counted by type, and shown as held."""
    await bench.join()
    ids = [await bench.submit("odd") for _ in range(2)] + [await bench.submit("even")]
    deliveries = (await bench.fetch(3)).deliveries
    await bench.w1.hold([hold(delivery) for delivery in deliveries])
    survey = await bench.broker.inspection.survey()
    assert (survey.waiting, survey.held, survey.is_complete) == ({}, {"odd": 2, "even": 1}, True)
    held = await bench.broker.inspection.get(ids[0])
    assert (held.state, held.is_held, held.is_waiting) == (TaskState.SCHEDULED, True, True)
    await bench.make(TaskState.SCHEDULED)
    await bench.advance(60_000)
    await bench.broker.promote()
    assert (await bench.broker.inspection.survey()).held == {}
    waiting = await bench.broker.inspection.get(ids[0])
    assert (waiting.is_held, waiting.is_waiting) == (False, True)


async def test_more_types_than_are_counted(rough_bench: Bench) -> None:
    """Clients that invent types make neither the answer nor the work of Redis grow."""
    bench = rough_bench
    names = [f"odd-{number}" for number in range(MAX_HELD_TYPES + 5)]
    await bench.redis.sadd(bench.keys.held_types, *names)
    for name in names:
        await bench.redis.zadd(bench.keys.held(name), {id_to_hex(bench.broker.new_task_id()): 1})
    survey = await bench.broker.inspection.survey()
    assert (len(survey.held), sum(survey.held.values())) == (MAX_HELD_TYPES, MAX_HELD_TYPES)
    assert not survey.is_complete


async def test_a_stream_without_its_group(rough_bench: Bench) -> None:
    """Its entries have been read by nobody."""
    bench = rough_bench
    task_id = await bench.submit()
    await bench.redis.xgroup_destroy(bench.keys.stream("default", 1), "workers")
    survey = await bench.broker.inspection.survey()
    assert survey.waiting == {"default": 1}
    assert survey.oldest_ms[Priority.NORMAL] == await waited_ms(bench, task_id)


async def test_partitions_are_added_up(settings: Settings) -> None:
    """Numbers are sums over the partitions, the oldest is the oldest of all."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    await broker.prepare()
    await broker.submit_many([Bench(broker, 0).new(queue="mail") for _ in range(30)])
    survey = await broker.inspection.survey()
    assert survey.waiting == {"mail": 30}
    assert 0 <= survey.oldest_ms[Priority.NORMAL] < 60_000
    await broker.purge(Priority.NORMAL)
    await broker.close()


async def test_servers(bench: Bench) -> None:
    """What Redis says of its memory and its append-only file."""
    states = await bench.broker.inspection.servers()
    assert all(state.can_write_log and state.used_bytes > 100_000 for state in states)
    assert {state.max_bytes for state in states} == {0}
