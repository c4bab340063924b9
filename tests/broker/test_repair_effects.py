"""repair: what a task looks like that was put back."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, complete, hold
from damages import Damage, acknowledge, audit, drop_group, drop_hash, drop_key, drop_stream, repair

from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Delivery, OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, STALE = OutcomeStatus.ACCEPTED, OutcomeStatus.STALE
S, Y = TaskState.SCHEDULED, TaskState.RETRYING
C, X, F, D = TaskState.COMPLETED, TaskState.CANCELLED, TaskState.FAILED, TaskState.DEAD_LETTER


async def test_running_without_its_entry(bench: Bench) -> None:
    """The task waits again, no attempt is counted, and its old delivery's outcome is refused."""
    delivery = await bench.start()
    await drop_stream(bench, delivery.digits)
    last = len(await bench.events())
    await repair(bench)
    [event] = await bench.events(last)
    assert (event.type, event.data["state"], event.data["attempts"]) == (
        "task.queued",
        "pending",
        0,
    )
    assert await bench.w1.complete([complete(delivery)]) == [STALE]
    [again] = (await bench.fetch()).deliveries
    assert (again.digits, again.number, again.attempts) == (delivery.digits, 2, 1)
    assert await bench.w1.complete([complete(delivery), complete(again)]) == [STALE, ACCEPTED]


async def test_running_without_its_lease(bench: Bench) -> None:
    """The worker that runs the task keeps it, and nobody else is given it."""
    delivery = await bench.start()
    await drop_group(bench, delivery.digits)
    last = len(await bench.events())
    await repair(bench)
    assert await bench.events(last) == []
    assert (await bench.snapshot())["q:default:1"] == [(delivery.digits, delivery.entry_id, "w1")]
    w2 = bench.broker.session("w2", "i2")
    await bench.join(w2)
    assert (await bench.fetch(session=w2)).deliveries == []
    await bench.beat(held=[delivery])
    assert await bench.w1.complete([complete(delivery)]) == [ACCEPTED]


async def test_a_lease_that_is_back_can_lapse(bench: Bench) -> None:
    """When the worker is dead after all, the task is recovered like any other."""
    delivery = await bench.start()
    await acknowledge(bench, delivery.digits)
    await repair(bench)
    await bench.age(delivery, LEASE_MS)
    w2 = bench.broker.session("w2", "i2")
    await bench.join(w2)
    [again] = (await w2.recover(1, streams=await bench.streams())).deliveries
    assert (again.digits, again.number, again.lost_leases) == (delivery.digits, 2, 1)


async def test_waiting_again(bench: Bench) -> None:
    """A waiting task has a new entry and its old time of creation; no state, so no event."""
    task_id = await bench.submit()
    digits, created = id_to_hex(task_id), (await bench.broker.inspection.get(task_id)).created_at_ms
    await drop_stream(bench, digits)
    await bench.redis.delete(bench.keys.bell("default"))
    last = len(await bench.events())
    await repair(bench)
    assert await bench.events(last) == []
    snapshot = await bench.snapshot()
    assert snapshot["wake:default"] == ["1"]
    assert snapshot["q:default:1"] == [(digits, snapshot[f"t:{digits}"]["m"], "")]
    assert (await bench.broker.inspection.get(task_id)).created_at_ms == created


async def test_a_queue_is_listed_once(bench: Bench) -> None:
    """However many tasks it has; workers that serve all queues hear of it."""
    await bench.submit()
    await bench.submit()
    version = int((await bench.snapshot())["meta"]["queues_version"])
    await bench.redis.delete(bench.keys.queues)
    assert await repair(bench) == ["queue default is listed again"]
    assert int((await bench.snapshot())["meta"]["queues_version"]) == version + 1


async def test_events_go_on(bench: Bench) -> None:
    """After the loss of their count they can be written again, by numbers that begin anew."""
    await bench.submit()
    await bench.submit()
    await bench.redis.delete(bench.keys.meta)
    await repair(bench)
    meta = (await bench.snapshot())["meta"]
    assert (meta["events"], meta["epoch"]) == ("2", str(bench.now))
    await bench.submit()
    assert [event.sequence for event in await bench.events()] == [1, 2, 3]


async def test_times_in_the_indexes(bench: Bench) -> None:
    """A rebuilt index has the times that it had: due, deletion and death; also of held tasks."""
    await bench.make(S)
    await bench.make(Y, scheduled_at_ms=bench.now - 1)
    await bench.advance(1)
    for state in (C, X, F, D):
        await bench.make(state)
        await bench.advance(1)
    await bench.make(D)
    await bench.advance(1)
    await bench.broker.clear()
    await bench.make(D)
    before = await bench.snapshot()
    for key in (bench.keys.schedule, bench.keys.done, bench.keys.dead_letters):
        await bench.redis.delete(key)
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.advance(10_000)
    await repair(bench)
    after = await bench.snapshot()
    assert [after[name] for name in ("sched", "done", "dlq")] == [
        before[name] for name in ("sched", "done", "dlq")
    ]
    assert after["wake:default"] == ["1"]


@pytest.mark.parametrize(("state", "index"), [(S, "sched"), (C, "done"), (D, "dlq")])
async def test_times_that_are_lost(bench: Bench, state: TaskState, index: str) -> None:
    """Without its time a task is due, or has ended, now."""
    task_id, _ = await bench.make(state)
    digits = id_to_hex(task_id)
    await bench.redis.hdel(bench.keys.task(digits), "z", "n", "e", "u")
    await bench.redis.delete(bench.keys.prefix + index)
    await repair(bench)
    retained = 7 * 86_400_000 if state is C else 0
    assert (await bench.snapshot())[index] == {digits: bench.now + retained}


async def _held(bench: Bench, **fields: object) -> Delivery:
    """Return a delivery that was put aside for want of a handler."""
    delivery = await bench.start(**fields)
    assert await bench.w1.hold([hold(delivery)]) == [ACCEPTED]
    return delivery


async def _no_longer_held(bench: Bench, digits: str) -> None:
    await bench.redis.zadd(bench.keys.held("echo"), {"0" * 32: 1})


async def _empty_type(bench: Bench, digits: str) -> None:
    await bench.redis.sadd(bench.keys.held_types, "mail")


async def _other_type(bench: Bench, digits: str) -> None:
    await bench.redis.sadd(bench.keys.held_types, "mail")
    await bench.redis.zadd(bench.keys.held("mail"), {digits: 1})


THERE = "task {} is among the held tasks of its type again"


@pytest.mark.parametrize(
    ("damage", "sentences"),
    [
        (drop_key("hold:echo"), [THERE]),
        (drop_key("held"), [THERE]),
        (_no_longer_held, ["0" * 32 + " is no longer among the held tasks"]),
        (_empty_type, ["mail is no longer a type of held tasks"]),
        (_other_type, ["{} is no longer among the held tasks"]),
        (drop_key("sched"), ["task {} is in the index of its state again"]),
    ],
)
async def test_held_tasks(bench: Bench, damage: Damage, sentences: list[str]) -> None:
    """A worker with a handler finds a held task, by its rank, in the index of its type only."""
    delivery = await _held(bench)
    before = await bench.snapshot()
    await damage(bench, delivery.digits)
    assert await audit(bench) != []
    assert await repair(bench) == [line.format(delivery.digits) for line in sentences]
    after = await bench.snapshot()
    del before["wake:default"], after["wake:default"]
    assert after == before
    assert await repair(bench) == []


async def test_held_task_that_lost_its_hash(bench: Bench) -> None:
    """It leaves the index of its type, too."""
    delivery = await _held(bench)
    await drop_hash(bench, delivery.digits)
    await repair(bench)
    assert not {"held", "hold:echo", "sched"} & (await bench.snapshot()).keys()
    assert await audit(bench) == []


async def test_events_say_whose_a_task_is(bench: Bench) -> None:
    """After the loss of the key that says that there are owners, events name them again."""
    ids = [await bench.submit(owner=name) for name in ("acme", "acme", "other")]
    await bench.redis.hdel(bench.keys.meta, "owners")
    assert sorted(await audit(bench)) == sorted(
        f"task {id_to_hex(task_id)} has an owner, but events do not say so" for task_id in ids
    )
    assert await repair(bench) == ["events say whose their tasks are again"]
    await bench.broker.cancel(ids[0])
    assert (await bench.events())[-1].owner == "acme"
