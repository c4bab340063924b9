"""submit: each accepted task is stored once, in its stream or the schedule."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from bench import Bench, changes, server_of

from taskqueue_core.broker import Broker, open_broker, open_redis
from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.errors import BrokerError, CapacityError, InvalidTaskError, NotFoundError
from taskqueue_core.keys import id_to_hex, new_task_id, partition_of
from taskqueue_core.models import NewTask, Priority, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


def event(task: NewTask, state: str, **more: object) -> tuple[str, dict[str, object]]:
    data = {"task_id": task.id, "type": task.type, "priority": task.priority.label}
    return "task.submitted", {**data, "state": state, "attempts": 0, **more}


async def test_minimal_task(bench: Bench) -> None:
    """A minimal task is a hash of four fields, a stream entry, an event and two counters."""
    await bench.submit()
    before = await bench.snapshot()
    task = bench.new()
    answer = await bench.broker.submit(task)
    after = await bench.snapshot()
    digits = id_to_hex(task.id)
    entry = after["q:default:1"][-1][1]
    assert changes(before, after) == {
        f"t:{digits}": {"s": "p", "y": "echo", "m": entry, "b": "[{}]"},
        "q:default:1": [*before["q:default:1"], (digits, entry, "")],
        "stats": {"backlog": "2", "submitted:other:1": "2"},
        "meta": {"events": "2"},
        "events": [event(task, "pending")],
    }
    assert answer == Submitted(task.id, TaskState.PENDING, int(entry.partition("-")[0]))


async def test_full_task(bench: Bench) -> None:
    """Everything that was sent is kept; a body of more than 64 bytes has a key of its own."""
    task = bench.new(
        "mail.send",
        payload=b'{"n":18446744073709551617}',
        metadata=b'{"customer":"0123456789012345678901234567890123456789"}',
        priority=Priority.CRITICAL,
        queue="mail",
        max_retries=0,
        timeout_seconds=5,
    )
    await bench.broker.submit(task)
    after = await bench.snapshot()
    entry = after["q:mail:3"][0][1]
    assert after[f"t:{id_to_hex(task.id)}"] == {
        "s": "p", "y": "mail.send", "m": entry, "q": "mail", "p": "3", "r": "0", "t": "5",
    }  # fmt: skip
    assert after[f"b:{id_to_hex(task.id)}"] == b"[%b,%b]" % (task.payload, task.metadata)
    assert after["wake:mail"] == ["1"]
    assert after["wake:*"] == ["1"]
    assert after["queues"] == {"mail": bench.now}


async def test_scheduled_task(bench: Bench) -> None:
    """A time to come puts the task on the schedule, a time that has passed into its stream."""
    before = await bench.snapshot()
    due = bench.now + 1
    task, late = bench.new(scheduled_at_ms=due), bench.new(scheduled_at_ms=1_000)
    await bench.broker.submit(task)
    found = changes(before, await bench.snapshot())
    assert found["sched"] == {id_to_hex(task.id): due}
    assert found[f"t:{id_to_hex(task.id)}"] == {
        "s": "s", "y": "echo", "c": str(bench.now), "z": str(due), "b": "[{}]",
    }  # fmt: skip
    assert found["stats"] == {"backlog": "1", "scheduled": "1", "submitted:other:1": "1"}
    shown = "scheduled_at"
    assert [(kind, data["state"], shown in data) for kind, data in found["events"]] == [
        ("task.submitted", "scheduled", True)
    ]
    assert (await bench.broker.submit(late)).state is TaskState.PENDING
    assert (await bench.task(late.id))["z"] == "1000"


@pytest.mark.parametrize("due", [None, 1_000, 10**14])
async def test_repeat(bench: Bench, due: int | None) -> None:
    """The same id again gets the same answer and changes nothing, twice in one call as well."""
    task = bench.new(scheduled_at_ms=due, payload=b'"' + b"x" * 100 + b'"')
    first, twin = await bench.broker.submit_many([task, task])
    before = await bench.snapshot()
    await bench.advance(1)
    assert [first, first] == [twin, await bench.broker.submit(task)]
    assert changes(before, await bench.snapshot()) == {}


async def test_many_keep_their_order(bench: Bench) -> None:
    """More than a call may carry goes in steps, in the order given, one event a task."""
    tasks = [bench.new() for _ in range(205)]
    answers = await bench.broker.submit_many(tasks)
    assert [answer.id for answer in answers if isinstance(answer, Submitted)] == [
        task.id for task in tasks
    ]
    ids = [entry[0] for entry in (await bench.snapshot())["q:default:1"]]
    assert ids == [id_to_hex(task.id) for task in tasks]
    assert [e.sequence for e in await bench.events()] == list(range(1, 206))


async def test_backlog_limit(settings: Settings, bench: Bench) -> None:
    """A full backlog refuses what is too much, and only that; nothing of it is stored."""
    queue = settings.queue.model_copy(update={"max_queue_size": 2})
    small = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    await bench.submit(scheduled_at_ms=bench.now + 1)
    answers = await small.submit_many([bench.new(), refused := bench.new()])
    assert isinstance(answers[0], Submitted)
    assert isinstance(answers[1], CapacityError)
    before = await bench.snapshot()
    with pytest.raises(CapacityError, match=r"2 unfinished tasks"):
        await small.submit(refused)
    assert changes(before, await bench.snapshot()) == {}
    await bench.broker.cancel(answers[0].id)
    assert (await small.submit(refused)).id == refused.id
    await small.close()


@pytest.mark.parametrize("partitions", [1, 3])
async def test_backlog_limit_is_exact(settings: Settings, partitions: int) -> None:
    """Of 500 at once as many are accepted as there is room for: an even share in each."""
    changed = {"max_queue_size": 100, "partitions": partitions}
    queue = settings.queue.model_copy(update=changed)
    chosen = settings.model_copy(update={"queue": queue})
    brokers = [open_broker(chosen), open_broker(chosen)]
    await brokers[0].prepare()
    calls = (
        broker.submit(NewTask(id=broker.new_task_id(), type="echo"), may_move=True)
        for broker in brokers * 250
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)
    accepted = [answer for answer in answers if isinstance(answer, Submitted)]
    assert all(isinstance(a, Submitted | CapacityError) for a in answers)
    share = 100 // partitions
    assert Counter(partition_of(task.id) for task in accepted) == dict.fromkeys(
        range(partitions), share
    )
    assert (await brokers[0].inspection.queue_stats()).backlog == share * partitions
    for broker in brokers:
        await broker.close()


async def test_a_batch_may_move(settings: Settings) -> None:
    """What one partition has no room for goes to the others, in the order of their room."""
    changed = {"max_queue_size": 90, "partitions": 3}
    queue = settings.queue.model_copy(update=changed)
    broker = open_broker(settings.model_copy(update={"queue": queue}))
    await broker.prepare()
    tasks = [NewTask(id=new_task_id(1), type="echo") for _ in range(100)]
    stays = await broker.submit_many(tasks[:40])
    answers = await broker.submit_many(tasks[40:], may_move=True)
    assert [isinstance(answer, Submitted) for answer in stays] == [True] * 30 + [False] * 10
    moved = [partition_of(answer.id) for answer in answers if isinstance(answer, Submitted)]
    assert Counter(moved) == {0: 30, 2: 30}
    assert isinstance((await broker.submit_many(tasks[40:42], may_move=True))[1], CapacityError)
    await broker.close()


async def test_callers_share_a_call(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of one moment go together; a caller gets its own error, and may leave."""
    sizes: list[int] = []
    call = Scripts.call

    async def record(
        self: Scripts, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        sizes.append(len(keys) - 1)
        return await call(self, name, keys, arguments)

    monkeypatch.setattr(Scripts, "call", record)
    broken = NewTask(id=bench.broker.new_task_id(), type=None)  # type: ignore[arg-type]
    calls = [asyncio.create_task(bench.broker.submit(bench.new())) for _ in range(50)]
    calls.append(asyncio.create_task(bench.broker.submit(broken)))
    await asyncio.sleep(0)
    calls[7].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers.pop(), AttributeError)
    assert isinstance(answers.pop(7), asyncio.CancelledError)
    assert all(isinstance(answer, Submitted) for answer in answers)
    assert sizes == [49]


async def test_readers_share_a_call(bench: Bench) -> None:
    """Tasks of several owners and none are read together, each as its reader may see it."""
    mine, yours = await bench.submit(owner="me"), await bench.submit(owner="you")
    asked = [(mine, "me"), (mine, "you"), (yours, ""), (bench.broker.new_task_id(), "")]
    get = bench.broker.inspection.get
    calls = (get(task_id, owner=owner) for task_id, owner in asked)
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(task, "id", None) for task in found] == [mine, None, yours, None]
    assert [isinstance(task, NotFoundError) for task in found] == [False, True, False, True]


async def test_queue_limit(settings: Settings, bench: Bench) -> None:
    """One queue too many is refused with its name; the queues there are go on."""
    queue = settings.queue.model_copy(update={"max_queues": 1})
    small = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    await bench.submit(queue="mail")
    before = await bench.snapshot()
    with pytest.raises(InvalidTaskError, match="queue: there are 1 queues already"):
        await small.submit(bench.new(queue="images"))
    assert changes(before, await bench.snapshot()) == {}
    assert (await small.submit(bench.new(queue="mail"))).state is TaskState.PENDING
    await small.close()


async def test_more_than_a_hundred(bench: Bench) -> None:
    """A call with more than 100 tasks is refused before anything is written."""
    before = await bench.snapshot()
    with pytest.raises(BrokerError, match="at most 100 tasks"):
        await bench.broker.scripts.call("submit", [bench.keys.meta], [101])
    assert await bench.snapshot() == before


async def test_bell_of_the_schedule(bench: Bench) -> None:
    """A new earliest task rings its queue; a later one does not."""
    await bench.submit(scheduled_at_ms=bench.now + 50)
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.submit(scheduled_at_ms=bench.now + 60)
    assert "wake:default" not in await bench.snapshot()
    await bench.submit(scheduled_at_ms=bench.now + 40)
    assert (await bench.snapshot())["wake:default"] == ["1"]


async def test_known_types_are_counted_by_name(bench: Bench) -> None:
    """A type counts under its name once a worker has announced it, under ``other`` before."""
    await bench.join()
    await bench.submit("echo")
    await bench.beat(types=["echo"])
    await bench.submit("echo")
    stats = await bench.broker.inspection.stats()
    assert (stats["submitted:other:1"], stats["submitted:echo:1"]) == (1, 1)


async def test_a_burst_larger_than_the_pool_waits(settings: Settings) -> None:
    """More callers at once than there may be connections: all are served, also a slow while."""
    redis = settings.redis.model_copy(update={"pool_size": 1})
    broker = open_broker(settings.model_copy(update={"redis": redis}))
    await broker.prepare()
    there = server_of(broker.redis, broker.partitions[0].meta)
    await broker.redis.execute_command("CLIENT PAUSE", 700, "WRITE", **there)
    calls = (broker.submit(NewTask(id=broker.new_task_id(), type="echo")) for _ in range(60))
    assert len(await asyncio.gather(*calls)) == 60
    await broker.close()
