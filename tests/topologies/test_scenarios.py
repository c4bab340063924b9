"""What every topology must do, on several partitions each."""

from __future__ import annotations

import anyio
import pytest
from crowd import Crew, new_task, opened, settings_for

from taskqueue_core.broker import Broker
from taskqueue_core.errors import CapacityError, NotFoundError, SchemaError
from taskqueue_core.events import Event
from taskqueue_core.keys import partition_of
from taskqueue_core.models import NewTask, OutcomeKind, Priority, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

PLACES = ["redis", "valkey", "sentinel", "cluster"]


@pytest.fixture(params=PLACES)
def settings(request: pytest.FixtureRequest, namespace: str) -> Settings:
    """Return settings for each topology in turn; the audit after each test is ``broker``'s."""
    return settings_for(request.getfixturevalue(request.param), namespace)


async def submit(broker: Broker, count: int) -> list[str]:
    """Submit tasks and return their ids, all accepted."""
    answers = await broker.submit_many([new_task(broker) for _ in range(count)])
    return [answer.id for answer in answers if isinstance(answer, Submitted)]


async def test_submissions_spread_and_are_found(broker: Broker) -> None:
    """Tasks go to all partitions, and an id leads to its task in any of them."""
    ids = await submit(broker, 120)
    assert len(ids) == 120
    assert {partition_of(task_id) for task_id in ids} == set(range(len(broker.partitions)))
    for task_id in ids[:20]:
        assert (await broker.inspection.get(task_id)).state is TaskState.PENDING
    assert (await broker.inspection.queue_stats()).backlog == 120
    with pytest.raises(NotFoundError):
        await broker.inspection.get(ids[0][:-2] + "ff")


async def test_a_worker_serves_all_partitions(broker: Broker) -> None:
    """One worker takes the tasks of all partitions; every outcome counts once."""
    crew, ids = Crew(broker), await submit(broker, 60)
    await crew.join()
    taken = await crew.fetch()
    assert len(taken) == 60
    await crew.report(OutcomeKind.COMPLETE, taken[:40])
    await crew.report(OutcomeKind.FAIL, taken[40:])
    states = [(await broker.inspection.get(task_id)).state for task_id in ids]
    assert states.count(TaskState.COMPLETED) == 40
    assert states.count(TaskState.DEAD_LETTER) == 20
    assert [worker.id for worker in await broker.inspection.workers()] == ["w1"]
    assert len((await broker.dead_letters.page(limit=15)).letters) == 15
    assert await broker.redrive() == 20
    assert await broker.purge(Priority.NORMAL) == 20
    assert (await broker.inspection.stats())["submitted:other:1"] == 60


async def test_lost_leases_are_recovered(settings: Settings) -> None:
    """What a silent worker held in any partition goes to another one."""
    worker = settings.worker.model_copy(
        update={"lease_seconds": 0.3, "heartbeat_interval_seconds": 0.1}
    )
    hasty = settings.model_copy(update={"worker": worker})
    async with opened(hasty) as broker:
        await submit(broker, 30)
        crew = Crew(broker)
        await crew.join()
        assert len(await crew.fetch()) == 30
        rescuer, recovered = Crew(broker, "w2"), []
        await rescuer.join()
        with anyio.fail_after(10):
            while len(recovered) < 30:
                recovered += await rescuer.recover()
        assert len({delivery.digits for delivery in recovered}) == 30


async def test_pause_and_its_end_reach_every_partition(broker: Broker) -> None:
    """A paused worker gets nothing from any partition until it is resumed."""
    crew = Crew(broker)
    await crew.join()
    await submit(broker, 30)
    await broker.pause("w1")
    assert await crew.fetch() == []
    await broker.resume("w1")
    assert len(await crew.fetch()) == 30


async def test_the_feed_resumes_in_every_partition(broker: Broker) -> None:
    """A reader gets the events of all partitions, and goes on where another one stopped."""
    await submit(broker, 40)
    first = await events(broker, {k.partition: 0 for k in broker.partitions}, 40)
    assert {event.partition for event in first} == set(range(len(broker.partitions)))
    positions = await broker.event_positions()
    assert positions == {
        partition: max(event.sequence for event in first if event.partition == partition)
        for partition in positions
    }
    ids = await submit(broker, 40)
    second = await events(broker, positions, 40)
    assert sorted(event.data["task_id"] for event in second) == sorted(ids)


async def test_forgotten_scripts_are_loaded_again(broker: Broker) -> None:
    """A server that has forgotten its scripts gets them again, unseen by callers."""
    await submit(broker, 30)
    await broker.redis.script_flush()
    assert len(await submit(broker, 30)) == 30


async def test_another_number_of_partitions_is_refused(broker: Broker) -> None:
    """Partitions are fixed when the namespace is made; a refusal leaves nothing behind."""
    queue = broker.settings.queue.model_copy(update={"partitions": 8})
    other = broker.settings.model_copy(update={"queue": queue})
    with pytest.raises(SchemaError, match="made with"):
        async with opened(other):
            pass
    assert not await broker.redis.exists(f"tq:{{{queue.namespace}.7}}:meta")


async def test_a_newer_schema_is_refused(broker: Broker) -> None:
    """A namespace that a newer version made is left alone, whichever partition says so."""
    meta = broker.partitions[-1].meta
    await broker.redis.hset(meta, "schema", "2")
    with pytest.raises(SchemaError, match="has schema 2"):
        await broker.prepare()


async def test_a_full_partition_passes_on_what_may_move(settings: Settings) -> None:
    """A task goes elsewhere under a new id while there is room anywhere, else it is refused."""
    count = settings.queue.partitions
    queue = settings.queue.model_copy(update={"max_queue_size": count})
    async with opened(settings.model_copy(update={"queue": queue})) as broker:
        task = new_task(broker)
        await broker.submit(task)
        beside = NewTask(id=broker.new_task_id()[:-2] + task.id[-2:], type="echo")
        with pytest.raises(CapacityError):
            await broker.submit(beside)
        for _ in range(count - 1):
            moved = await broker.submit(beside, may_move=True)
            assert partition_of(moved.id) != partition_of(task.id)
            assert (await broker.inspection.get(moved.id)).type == "echo"
        with pytest.raises(CapacityError):
            await broker.submit(beside, may_move=True)


async def events(broker: Broker, after: dict[int, int], count: int) -> list[Event]:
    """Return so many events behind the positions."""
    feed, found = broker.event_feed(), []
    follower = feed.follow(after)
    with anyio.fail_after(10):
        while len(found) < count:
            found += await anext(follower)
    await follower.aclose()
    await feed.close()
    return found
