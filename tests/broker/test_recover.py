"""recover: tasks whose lease has run out are taken over."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes, complete, fail, task_id_of

from taskqueue_core.broker.sessions import Recovered, WorkerSession
from taskqueue_core.errors import BrokerError
from taskqueue_core.keys import GROUP
from taskqueue_core.models import Delivery, OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, STALE = OutcomeStatus.ACCEPTED, OutcomeStatus.STALE
GRACE_MS = LEASE_MS // 3 + 1_000


async def rescuer(bench: Bench, number: int = 2) -> WorkerSession:
    session = bench.broker.session(f"w{number}", f"i{number}")
    await bench.join(session)
    return session


async def recover(bench: Bench, session: WorkerSession, wanted: int = 10) -> Recovered:
    return await session.recover(wanted, streams=await bench.streams())


async def lapse(bench: Bench, delivery: Delivery, consumer: str = "w1") -> None:
    await bench.age(delivery, LEASE_MS, consumer)


async def test_take_over(bench: Bench) -> None:
    """The task is the rescuer's, as its next delivery; its attempts stay, its lost leases grow."""
    delivery = await bench.start(payload=b'"' + b"x" * 80 + b'"')
    w2 = await rescuer(bench)
    await lapse(bench, delivery)
    before = await bench.snapshot()
    recovered = await recover(bench, w2)
    found = changes(before, await bench.snapshot())
    [(kind, data)] = found.pop("events")
    assert (kind, data["state"], data["worker_id"]) == ("task.recovered", "running", "w2")
    assert found == {
        f"t:{delivery.digits}": {"f": "2:i2", "w": "w2", "l": "1"},
        "q:default:1": [(delivery.digits, delivery.entry_id, "w2")],
        "stats": {"lost": "1", "recovered": "1"},
        "meta": {"events": "5"},
    }
    [again] = recovered.deliveries
    assert (again.number, again.attempts, again.lost_leases) == (2, 1, 1)
    assert again.body == delivery.body
    assert await bench.w1.complete([complete(delivery)]) == [STALE]
    assert await w2.complete([complete(again)]) == [ACCEPTED]


async def test_repeat(bench: Bench) -> None:
    """The lease is young again: asking once more brings and changes nothing."""
    delivery = await bench.start()
    w2 = await rescuer(bench)
    await lapse(bench, delivery)
    await recover(bench, w2)
    before = await bench.snapshot()
    assert (await recover(bench, w2)).deliveries == []
    assert changes(before, await bench.snapshot()) == {}


async def test_young_leases_stay(bench: Bench) -> None:
    """A lease that has not run out is nobody else's business."""
    delivery = await bench.start()
    w2 = await rescuer(bench)
    await bench.age(delivery, LEASE_MS - 3_000)
    assert (await recover(bench, w2)).deliveries == []


async def test_poison(bench: Bench) -> None:
    """The third lost lease ends the task as a dead letter; the lost attempt is not counted."""
    delivery = await bench.start()
    await bench.w1.fail([fail(delivery, b"e" * 65, max_retries=9)])
    delivery = (await bench.fetch()).deliveries[0]
    for number in (1, 2, 3):
        session = await rescuer(bench, number + 1)
        await lapse(bench, delivery, f"w{number}")
        recovered = await recover(bench, session)
        if number < 3:
            [delivery] = recovered.deliveries
            assert (delivery.attempts, delivery.lost_leases) == (2, number)
    assert recovered.deliveries == []
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.reason, task.lost_leases) == (TaskState.DEAD_LETTER, "poison", 3)
    assert (task.attempts, task.error) == (1, "lease lost 3 times: the worker died or hung")
    assert [e.type for e in await bench.events()][-2:] == ["task.failed", "task.dead_letter"]


async def test_a_delivery_that_was_never_started(bench: Bench) -> None:
    """An entry on the pending list whose task still waits is a first delivery, no lost lease."""
    await bench.join()
    await bench.submit()
    stream = bench.keys.stream("default", 1)
    [[_, [(entry, _)]]] = await bench.redis.xreadgroup(GROUP, "w1", {stream: ">"})
    await bench.redis.xclaim(stream, GROUP, "w1", 0, [entry], idle=LEASE_MS, justid=True)
    [delivery] = (await recover(bench, await rescuer(bench))).deliveries
    assert (delivery.number, delivery.attempts, delivery.lost_leases) == (1, 1, 0)
    assert [e.type for e in await bench.events()][-1] == "task.started"


async def test_deleted_entries_and_orphans(bench: Bench) -> None:
    """Entries that are gone leave the pending list; those without a task leave the stream."""
    delivery = await bench.start()
    stream = bench.keys.stream("default", 1)
    gone = await bench.redis.xadd(stream, {"i": "0" * 32})
    orphan = await bench.redis.xadd(stream, {"i": "1" * 32})
    await bench.redis.xreadgroup(GROUP, "w1", {stream: ">"})
    await bench.redis.xclaim(stream, GROUP, "w1", 0, [gone, orphan], idle=LEASE_MS, justid=True)
    await bench.redis.xdel(stream, gone)
    assert (await recover(bench, await rescuer(bench))).deliveries == []
    rows = (await bench.snapshot())["q:default:1"]
    assert rows == [(delivery.digits, delivery.entry_id, "w1")]
    assert (await bench.redis.xpending(stream, GROUP))["pending"] == 1


async def test_deleted_stream(bench: Bench) -> None:
    """A stream without its group has nothing to recover and disturbs nothing."""
    delivery = await bench.start()
    await bench.redis.delete(bench.keys.stream("default", 3))
    await lapse(bench, delivery)
    assert len((await recover(bench, await rescuer(bench))).deliveries) == 1


async def test_steps(bench: Bench) -> None:
    """A call looks at no more entries than it may; the next one goes on where it stopped."""
    await bench.join()
    for queue in ("default", "mail"):
        await bench.broker.submit_many([bench.new(queue=queue) for _ in range(5)])
    for delivery in (await bench.fetch(10)).deliveries:
        await lapse(bench, delivery)
    w2 = await rescuer(bench)
    sizes = [len((await recover(bench, w2, 4)).deliveries) for _ in range(4)]
    assert (sizes[0], sum(sizes)) == (4, 10)
    assert (await recover(bench, w2, 0)).deliveries == []
    with pytest.raises(BrokerError, match="at most 100"):
        await recover(bench, w2, 101)


async def test_behind_many_good_leases(bench: Bench) -> None:
    """One free slot is enough to find a lapsed lease behind 300 good ones in one call."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(301)])
    for _ in range(4):
        last = (await bench.fetch(100)).deliveries[-1]
    await lapse(bench, last)
    [again] = (await recover(bench, await rescuer(bench), 1)).deliveries
    assert again.digits == last.digits


async def test_poison_counts_as_looked_at(bench: Bench) -> None:
    """However many tasks are poison, a call stays within its limit."""
    await bench.join()
    for queue in ("default", "mail", "images"):
        await bench.broker.submit_many([bench.new(queue=queue) for _ in range(4)])
    for delivery in (await bench.fetch(12)).deliveries:
        await lapse(bench, delivery)
        await bench.redis.hset(bench.keys.task(delivery.digits), "l", 2)
    w2 = await rescuer(bench)
    await recover(bench, w2, 5)
    assert (await bench.broker.inspection.queue_stats()).dead_letter_count == 5


async def test_nothing_without_heartbeats(bench: Bench) -> None:
    """While no heartbeat gets through, nobody's lease has run out."""
    delivery = await bench.start()
    await lapse(bench, delivery)
    await bench.advance(LEASE_MS + 1)
    before = await bench.snapshot()
    assert await recover(bench, bench.broker.session("w2", "i2")) == Recovered([], [])
    assert changes(before, await bench.snapshot()) == {}


async def outage(bench: Bench, *deliveries: Delivery, consumer: str = "w1") -> None:
    """Let the broker be away for an hour; afterwards ``w9`` is the first to beat."""
    await bench.advance(3_600_000)
    for delivery in deliveries:
        await bench.age(delivery, 3_600_000, consumer)
    await bench.join(bench.broker.session("w9", "i9"))


async def test_grace_after_an_outage(bench: Bench) -> None:
    """Workers that come back in the grace time keep what they run."""
    back, gone = await bench.start(), await bench.start()
    await outage(bench, back, gone)
    w9 = bench.broker.session("w9", "i9")
    await bench.advance(GRACE_MS - 1)
    assert (await recover(bench, w9)).deliveries == []
    await bench.beat(held=[back])
    await bench.advance(1)
    [again] = (await recover(bench, w9)).deliveries
    assert (again.digits, again.number, again.attempts, again.lost_leases) == (
        gone.digits, 2, 1, 0,
    )  # fmt: skip
    assert "lost" not in await bench.broker.inspection.stats()
    assert await bench.w1.complete([complete(back)]) == [ACCEPTED]


async def test_forgiven_once(bench: Bench) -> None:
    """A task whose worker dies of it each time is found out, however late workers come back."""
    delivery = await bench.start()
    losses, holder = [], "w1"
    for _ in range(4):
        await outage(bench, delivery, consumer=holder)
        holder = "w9"
        await bench.advance(GRACE_MS)
        await bench.beat(bench.broker.session("w9", "i9"))
        deliveries = (await recover(bench, bench.broker.session("w9", "i9"))).deliveries
        losses += [d.lost_leases for d in deliveries]
        delivery = deliveries[0] if deliveries else delivery
    assert losses == [0, 1, 2]
    assert await bench.state(task_id_of(delivery)) is TaskState.DEAD_LETTER
    await bench.broker.retry(task_id_of(delivery))
    assert not {"l", "o"} & (await bench.task(task_id_of(delivery))).keys()


async def test_own_tasks_too(bench: Bench) -> None:
    """A worker whose heartbeats failed takes its own task over: the old delivery is stale."""
    delivery = await bench.start()
    await lapse(bench, delivery)
    [again] = (await recover(bench, bench.w1)).deliveries
    assert again.number == 2
    assert await bench.w1.complete([complete(delivery), complete(again)]) == [STALE, ACCEPTED]


async def test_expired_workers_are_named(bench: Bench) -> None:
    """The answer names workers whose registration has run out, for ``expel``."""
    await bench.join()
    await bench.advance(LEASE_MS)
    assert (await recover(bench, await rescuer(bench))).expired_workers == ["w1"]
