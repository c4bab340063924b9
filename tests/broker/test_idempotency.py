"""Idempotency keys: a request that comes again finds its tasks, and makes the missing ones."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from bench import Bench, changes

from taskqueue_core.broker import Broker, open_broker, open_redis
from taskqueue_core.broker.idempotency import IdempotencyKey
from taskqueue_core.errors import CapacityError, IdempotencyError
from taskqueue_core.keys import id_to_hex, partition_of
from taskqueue_core.models import NewTask, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

BODY = b'{"type":"echo"}'


def request(
    bench: Bench, count: int = 1, *, key: str = "k", body: bytes = BODY, owner: str = ""
) -> list[NewTask]:
    """Return the tasks of a request as they are made anew each time it comes."""
    known = bench.broker.idempotency_key(key, body, owner=owner)
    return [known.apply(bench.new(owner=owner), at) for at in range(count)]


def small(settings: Settings, limit: int) -> Broker:
    """Return a broker on the same namespace whose backlog limit is lower."""
    queue = settings.queue.model_copy(update={"max_queue_size": limit})
    return Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))


async def test_the_first_one_leaves_a_record(bench: Bench) -> None:
    """Beside the task there is one key more, as the data model says, and it goes by itself."""
    before = await bench.snapshot()
    [task] = request(bench)
    assert task.idempotency is not None
    answer = await bench.broker.submit(task)
    name = f"idem:{task.idempotency.record}"
    found = changes(before, await bench.snapshot())
    assert found[name] == task.idempotency.fingerprint + id_to_hex(task.id)[:28].encode()
    assert set(found) - {name} == {
        f"t:{id_to_hex(task.id)}", "q:default:1", "queues", "wake:default", "wake:*", "meta",
        "stats", "events", *(f"q:default:{n}" for n in (0, 2, 3)),
    }  # fmt: skip
    assert (answer.id, answer.is_repeat) == (task.id, False)
    assert 0 < await bench.redis.pttl(bench.keys.prefix + name) <= 86_400_000


@pytest.mark.parametrize("due", [None, 1_000, 10**14])
async def test_a_repeat_is_the_same_task(bench: Bench, due: int | None) -> None:
    """Whoever sends it again gets the first answer; nothing changes."""
    key = bench.broker.idempotency_key("k", BODY)
    first = await bench.broker.submit(key.apply(bench.new(scheduled_at_ms=due)))
    await bench.advance(5_000)
    before = await bench.snapshot()
    again = bench.broker.idempotency_key("k", BODY).apply(bench.new(scheduled_at_ms=due))
    assert again.id != first.id
    answer = await bench.broker.submit(again)
    assert answer == Submitted(first.id, first.state, first.created_at_ms, is_repeat=True)
    assert changes(before, await bench.snapshot()) == {}


async def test_a_repeat_of_the_call_is_none_of_the_request(bench: Bench) -> None:
    """When only the reply was lost, the client is told of a new task."""
    [task] = request(bench)
    first = await bench.broker.submit(task)
    assert await bench.broker.submit(task) == first
    assert not first.is_repeat


async def test_a_repeat_of_what_is_over(bench: Bench) -> None:
    """A task that has ended, or was sent back, is still the answer, as it was created."""
    [task] = request(bench)
    first = await bench.broker.submit(task)
    await bench.broker.cancel(first.id)
    for _ in range(2):
        answer = await bench.broker.submit(request(bench)[0])
        assert (answer.id, answer.state) == (first.id, TaskState.PENDING)
        assert answer.created_at_ms == first.created_at_ms
        await bench.broker.retry(first.id)
        await bench.advance(1_000)
        await bench.broker.cancel(first.id)


async def test_another_request_with_the_key_is_refused(bench: Bench) -> None:
    """It is told so, and nothing is stored; another owner's key is another key."""
    await bench.broker.submit(request(bench)[0])
    before = await bench.snapshot()
    with pytest.raises(IdempotencyError, match="take a new key"):
        await bench.broker.submit(request(bench, body=b"{}")[0])
    with pytest.raises(IdempotencyError):
        await bench.broker.find_repeats(request(bench, body=b"{}"))
    assert changes(before, await bench.snapshot()) == {}
    for owner, key in (("one", "k"), ("two", "k"), ("", "k2")):
        other = await bench.broker.submit(request(bench, key=key, owner=owner, body=b"{}")[0])
        assert not other.is_repeat


async def test_the_limit_does_not_hold_for_a_repeat(settings: Settings, bench: Bench) -> None:
    """A full queue answers a repeat; what it refuses leaves no record, and may be sent again."""
    full = small(settings, 1)
    first = await full.submit(request(bench)[0])
    assert (await full.submit(request(bench)[0])).id == first.id
    before = await bench.snapshot()
    with pytest.raises(CapacityError):
        await full.submit(request(bench, key="other")[0], may_move=True)
    assert changes(before, await bench.snapshot()) == {}
    await bench.broker.cancel(first.id)
    assert not (await full.submit(request(bench, key="other", body=b"changed")[0])).is_repeat
    await full.close()


async def test_a_repeat_makes_what_is_missing(settings: Settings, bench: Bench) -> None:
    """Of a large request what was refused is made later, under ids that are alike."""
    full = small(settings, 120)
    answers = await full.submit_many(request(bench, 150))
    assert [isinstance(answer, Submitted) for answer in answers] == [True] * 120 + [False] * 30
    assert all(isinstance(answer, CapacityError) for answer in answers[120:])
    again = await bench.broker.submit_many(request(bench, 150))
    made = [answer for answer in again if isinstance(answer, Submitted)]
    assert [answer.is_repeat for answer in made] == [True] * 120 + [False] * 30
    assert [answer.id for answer in made[:120]] == [a.id for a in answers[:120]]  # type: ignore[union-attr]
    assert made[120].id[:-4] == made[119].id[:-4]
    last = await bench.broker.submit_many(request(bench, 150))
    assert [a.id for a in last] == [answer.id for answer in made]  # type: ignore[union-attr]
    assert (await bench.broker.inspection.queue_stats()).backlog == 150
    await full.close()


async def test_finding_repeats_stores_nothing(bench: Bench) -> None:
    """What was submitted is found, of what was not nothing is kept."""
    before = await bench.snapshot()
    assert await bench.broker.find_repeats(request(bench, 3)) == [None] * 3
    assert changes(before, await bench.snapshot()) == {}
    answers = await bench.broker.submit_many(request(bench, 2))
    found = await bench.broker.find_repeats(request(bench, 3))
    assert [repeat and repeat.id for repeat in found] == [*(a.id for a in answers), None]  # type: ignore[union-attr]


async def test_many_at_once_make_one_task(settings: Settings, bench: Bench) -> None:
    """Fifty at the same moment over two brokers: one task, one answer that it is new."""
    other = open_broker(settings)
    brokers = [bench.broker, other] * 25
    answers = await asyncio.gather(*(broker.submit(request(bench)[0]) for broker in brokers))
    assert len({answer.id for answer in answers}) == 1
    assert sorted(answer.is_repeat for answer in answers) == [False] + [True] * 49
    assert (await bench.broker.inspection.queue_stats()).backlog == 1
    await other.close()


@pytest.mark.parametrize(
    ("changed", "hours"),
    [
        ({}, 24),
        ({"idempotency_hours": 2.0}, 2),
        ({"task_retention_days": 0.5}, 12),
        ({"dead_letter_retention_days": 0.25}, 6),
        ({"dead_letter_retention_days": 0.0}, 24),
    ],
)
async def test_a_record_never_outlives_its_task(
    settings: Settings, bench: Bench, changed: dict[str, float], hours: int
) -> None:
    """It is kept for a time of its own, or for as long as a task may be deleted after."""
    queue = settings.queue.model_copy(update=changed)
    broker = open_broker(settings.model_copy(update={"queue": queue}))
    [task] = request(bench)
    assert task.idempotency is not None
    await broker.submit(task)
    left = await bench.redis.pttl(bench.keys.idempotency(task.idempotency.record))
    assert hours * 3_600_000 - 10_000 < left <= hours * 3_600_000
    await broker.close()


def test_ids() -> None:
    """They are UUIDs like any; each hundred is in one partition, which only the key decides."""
    task = NewTask(id="", type="echo")
    partitions = []
    for _ in range(2):
        key = IdempotencyKey("k", BODY, owner="me", partitions=16)
        tasks = [key.apply(task, at) for at in range(250)]
        assert len({task.id for task in tasks}) == 250
        assert {UUID(task.id).version for task in tasks} == {7}
        assert {UUID(task.id).variant for task in tasks} == {"specified in RFC 4122"}
        partitions.append([partition_of(task.id) for task in tasks])
    assert partitions[0] == partitions[1]
    assert [len(set(partitions[0][at : at + 100])) for at in (0, 100, 200)] == [1, 1, 1]
    others = [IdempotencyKey(f"k{n}", BODY, owner="", partitions=16) for n in range(100)]
    assert {partition_of(key.apply(task).id) for key in others} == set(range(16))
