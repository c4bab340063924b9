"""The read side: tasks, workers, dead letters and counters as clients see them."""

from __future__ import annotations

import msgspec
import pytest
from bench import Bench, changes, complete, fail, task_id_of

from taskqueue_core.broker import Broker, TaskQuery, open_redis
from taskqueue_core.errors import BrokerUnavailableError, NotFoundError
from taskqueue_core.models import Attempt, HandlerInfo, Priority, Task
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def test_a_new_task(bench: Bench) -> None:
    """What was sent comes back as it was sent, what was not sent stays absent."""
    new = bench.new(payload=b'{"n": 18446744073709551617}', metadata=b'{"a":"b"}')
    submitted = await bench.broker.submit(new)
    assert await bench.broker.inspection.get(new.id) == Task(
        id=new.id,
        type="echo",
        queue="default",
        priority=Priority.NORMAL,
        state=TaskState.PENDING,
        created_at_ms=submitted.created_at_ms,
        updated_at_ms=submitted.created_at_ms,
        payload=new.payload,
        metadata=new.metadata,
    )


async def test_times(bench: Bench) -> None:
    """Created, started, ended and updated are the moments they name."""
    created = bench.now
    task_id = await bench.submit(scheduled_at_ms=created + 10, priority=0, queue="mail")
    task = await bench.broker.inspection.get(task_id)
    assert (task.created_at_ms, task.scheduled_at_ms) == (created, created + 10)
    await bench.join()
    await bench.advance(10)
    [delivery] = (await bench.fetch()).deliveries
    running = await bench.broker.inspection.get(task_id)
    assert (running.started_at_ms, running.updated_at_ms) == (created + 10, created + 10)
    assert (running.worker_id, running.attempts, running.deliveries) == ("w1", 1, 1)
    await bench.advance(5)
    await bench.w1.complete([complete(delivery)])
    done = await bench.broker.inspection.get(task_id)
    assert (done.completed_at_ms, done.updated_at_ms) == (created + 15, created + 15)
    assert (done.created_at_ms, done.result, done.error) == (created, b"true", "")


async def test_a_retrying_task(bench: Bench) -> None:
    """It shows its error and when it will run again, and has not ended."""
    task_id, _ = await bench.make(TaskState.RETRYING)
    task = await bench.broker.inspection.get(task_id)
    assert task.next_retry_at_ms == task.scheduled_at_ms == bench.now + 60_000
    assert (task.error, task.completed_at_ms) == ("broken", None)


@pytest.mark.parametrize("task_id", ["", "nonsense", "0" * 32, "{}", None, "partition"])
async def test_unknown_tasks(bench: Bench, task_id: str | None) -> None:
    """No task, no UUID, or a partition that does not exist: not found, without a look at Redis."""
    unknown = bench.broker.new_task_id()
    named = {None: unknown, "partition": unknown[:-2] + "01"}.get(task_id, task_id)
    assert named is not None
    with pytest.raises(NotFoundError, match="task"):
        await bench.broker.inspection.get(named)


async def test_an_id_in_capitals(bench: Bench) -> None:
    """An id names its task in any case of letters."""
    task_id = await bench.submit()
    assert (await bench.broker.inspection.get(task_id.upper())).id == task_id


async def test_workers(bench: Bench) -> None:
    """Live workers, by id, with what they said of themselves."""
    for name in ("w2", "w1"):
        session = bench.broker.session(name, "i-" + name)
        await session.register(
            concurrency=3, version="1.0", queues=("mail",), handlers={"echo": HandlerInfo()}
        )
    workers = await bench.broker.inspection.workers()
    assert [(w.id, w.instance, w.state) for w in workers] == [
        ("w1", "i-w1", "idle"),
        ("w2", "i-w2", "idle"),
    ]
    worker = await bench.broker.inspection.worker("w1")
    assert (worker.concurrency, worker.version, worker.queues) == (3, "1.0", ("mail",))
    assert (worker.handlers, worker.started_at_ms) == (b'{"echo":{}}', bench.now)
    await bench.redis.delete(bench.keys.worker("w1"))
    assert [w.id for w in await bench.broker.inspection.workers()] == ["w2"]


async def test_worker_states(bench: Bench) -> None:
    """Shutting down, then paused, then busy, then idle: the first that is true is shown."""

    async def state() -> str:
        return (await bench.broker.inspection.worker("w1")).state

    await bench.join()
    assert await state() == "idle"
    await bench.w1.heartbeat(request=99, active=2)
    assert await state() == "busy"
    await bench.broker.pause("w1")
    assert await state() == "paused"
    await bench.w1.stop()
    assert await state() == "shutting_down"


@pytest.mark.parametrize("name", ["w9", "", "a b", "x:y", "n" * 65])
async def test_unknown_workers(bench: Bench, name: str) -> None:
    """A name that is none, or nobody's, is not found."""
    with pytest.raises(NotFoundError, match="worker"):
        await bench.broker.inspection.worker(name)


async def test_reading_changes_nothing(bench: Bench) -> None:
    """No read leaves a trace."""
    delivery = await bench.start()
    await bench.w1.fail([fail(delivery)])
    before = await bench.snapshot()
    inspection = bench.broker.inspection
    await inspection.workers()
    await inspection.running("w1")
    await inspection.attempts(task_id_of(delivery))
    await bench.broker.dead_letters.page()
    await bench.broker.dead_letters.groups()
    await bench.broker.search.page(TaskQuery(), limit=5)
    await inspection.queue_stats()
    await inspection.survey()
    await inspection.servers()
    await inspection.stats()
    await inspection.audit()
    assert changes(before, await bench.snapshot()) == {}


async def test_partitions_are_added_up(settings: Settings) -> None:
    """With several partitions a task is found by its id, and numbers are sums."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    await broker.prepare()
    tasks = [Bench(broker, 0).new() for _ in range(30)]
    await broker.submit_many(tasks)
    assert len({task.id[-2:] for task in tasks}) == 3
    assert (await broker.inspection.get(tasks[7].id)).id == tasks[7].id
    stats = await broker.inspection.queue_stats()
    assert (stats.backlog, stats.depths[Priority.NORMAL].queued) == (30, 30)
    assert (await broker.inspection.stats())["submitted:other:1"] == 30
    assert await broker.inspection.audit() == []
    assert await broker.purge(Priority.NORMAL) == 30
    await broker.close()


async def test_without_redis(settings: Settings) -> None:
    """Every read says that the broker is away, as one kind of error."""
    redis = settings.redis.model_copy(
        update={"url": "redis://127.0.0.1:1/0", "max_retries": 0, "dial_timeout_seconds": 1.0}
    )
    away = settings.model_copy(update={"redis": redis})
    broker = Broker(open_redis(away), away)
    inspection = broker.inspection
    reads = [
        inspection.get(broker.new_task_id()),
        inspection.queue_stats(),
        inspection.survey(),
        inspection.servers(),
        inspection.workers(),
        inspection.worker("w1"),
        inspection.running("w1"),
        inspection.attempts(broker.new_task_id()),
        inspection.handler_schemas("w1"),
        broker.dead_letters.page(),
        broker.dead_letters.groups(),
        broker.search.page(TaskQuery(), limit=5),
        inspection.stats(),
        inspection.audit(),
        inspection.queues(broker.partitions[0]),
        broker.ping(),
        broker.prepare(),
    ]
    for read in reads:
        with pytest.raises(BrokerUnavailableError):
            await read
    await broker.close()


async def test_attempts(bench: Bench) -> None:
    """The failed attempts as their workers recorded them, oldest first, the latest twenty."""
    task_id = await bench.submit()
    await bench.join()
    assert await bench.broker.inspection.attempts(task_id) == []
    for number in range(1, 23):
        [delivery] = (await bench.fetch()).deliveries
        record = Attempt(
            attempt=delivery.attempts,
            delivery=delivery.number,
            worker_id="w1",
            started_at_ms=bench.now,
            ended_at_ms=bench.now + number,
            error=f"error {number}",
            traceback="Traceback ...",
        )
        history = msgspec.json.encode(record)
        await bench.w1.fail([fail(delivery, max_retries=99, history=history)])
        await bench.advance(10)
    found = await bench.broker.inspection.attempts(task_id)
    assert [attempt.attempt for attempt in found] == list(range(3, 23))
    assert found[-1] == record
    for name in (bench.broker.new_task_id(), "nonsense"):
        with pytest.raises(NotFoundError):
            await bench.broker.inspection.attempts(name)


async def test_attempts_of_another_owner(bench: Bench) -> None:
    """A task of somebody else is not there."""
    task_id = await bench.submit(owner="one")
    attempts = bench.broker.inspection.attempts
    assert await attempts(task_id, owner="one") == await attempts(task_id) == []
    for owner in ("two", "o"):
        with pytest.raises(NotFoundError):
            await attempts(task_id, owner=owner)
    unowned = await bench.submit()
    with pytest.raises(NotFoundError):
        await attempts(unowned, owner="one")
