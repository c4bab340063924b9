"""heartbeat: registration and leases renewed, measurements added, forgotten tasks given back."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes, complete, task_id_of

from taskqueue_core.errors import BrokerError
from taskqueue_core.keys import GROUP, id_to_hex
from taskqueue_core.models import LeaseStatus, OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

HELD, LOST = LeaseStatus.HELD, LeaseStatus.LOST


async def idle(bench: Bench, consumer: str = "w1") -> list[int]:
    """Return the ages of a worker's leases in seconds."""
    rows = await bench.redis.xpending_range(
        bench.keys.stream("default", 1), GROUP, "-", "+", 100, consumer
    )
    return [row["time_since_delivered"] // 1000 for row in rows]


async def test_registration(bench: Bench) -> None:
    """Types, counters, the worker's load and the time of the beat are written."""
    await bench.join()
    before = await bench.snapshot()
    await bench.advance(5_000)
    beat = await bench.w1.heartbeat(
        request=77, active=3, types=["echo", "mail"], counters={"wait:1:3": 2, "wait_ms:1": 17}
    )
    now = bench.now
    assert changes(before, await bench.snapshot()) == {
        "w:w1": {"heartbeat": str(now), "active": "3", "beat": "77", "types": " echo mail "},
        "workers": {"w1": now + LEASE_MS},
        "types": {"echo": now, "mail": now},
        "stats": {"wait:1:3": "2", "wait_ms:1": "17"},
        "meta": {"heartbeat": str(now)},
    }
    assert (beat.is_known, beat.is_paused, beat.statuses) == (True, False, [])
    assert beat.queues_version == 0


async def test_new_queues_are_told(bench: Bench) -> None:
    """The version of the set of queues is in the answer: a worker that takes nothing hears it."""
    await bench.join()
    await bench.submit(queue="mail")
    assert (await bench.beat()).queues_version == 1
    assert (await bench.beat(bench.broker.session("w9", "i9"))).queues_version == 0


async def test_repeat_counts_once(bench: Bench) -> None:
    """A beat whose reply was lost may come again; its measurements count once."""
    await bench.join()
    for _ in range(2):
        await bench.w1.heartbeat(request=5, active=0, counters={"wait_ms:1": 10})
    assert (await bench.broker.inspection.stats())["wait_ms:1"] == 10
    await bench.w1.heartbeat(request=6, active=0, counters={"wait_ms:1": 10})
    assert (await bench.broker.inspection.stats())["wait_ms:1"] == 20


async def test_types_that_are_no_labels(bench: Bench) -> None:
    """What is measured of a type is counted under its name once it is a label, else as other."""
    await bench.join()
    counters = {"duration:echo:3": 1, "duration_ms:odd": 7, "duration:odd:3": 2, "wait:1:3": 4}
    await bench.beat(types=["echo"], counters=counters)
    assert await bench.broker.inspection.stats() == {
        "duration:echo:3": 1,
        "duration_ms:other": 7,
        "duration:other:3": 2,
        "wait:1:3": 4,
    }


async def test_unknown_worker(bench: Bench) -> None:
    """Without its registration, or of another instance, a worker renews nothing."""
    delivery = await bench.start()
    await bench.age(delivery, 9_000)
    before = await bench.snapshot()
    for session in (bench.broker.session("w1", "i2"), bench.broker.session("w9", "i1")):
        beat = await session.heartbeat(request=1, active=0, held=[delivery], types=["echo"])
        assert (beat.is_known, beat.statuses) == (False, [])
    assert changes(before, await bench.snapshot()) == {}
    assert await idle(bench) == [9]


async def test_leases(bench: Bench) -> None:
    """What the worker holds is renewed; what it does not hold any more is reported lost."""
    held, done = await bench.start(), await bench.start()
    await bench.w1.complete([complete(done)])
    await bench.age(held, 9_000)
    assert (await bench.beat(held=[done, held])).statuses == [LOST, HELD]
    assert await idle(bench) == [0]


async def test_a_lost_lease_is_never_taken_back(bench: Bench) -> None:
    """Once another worker has taken the task over, the old one's beat does not touch it."""
    delivery = await bench.start()
    await bench.age(delivery, LEASE_MS)
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    [again] = (await other.recover(1, streams=await bench.streams())).deliveries
    await bench.age(again, 5_000, "w2")
    assert (await bench.beat(held=[delivery])).statuses == [LOST]
    assert await idle(bench, "w2") == [5]
    assert (await bench.beat(other, held=[again])).statuses == [HELD]


async def test_one_stream_gone(rough_bench: Bench) -> None:
    """A stream deleted by hand costs the worker no lease in other streams."""
    bench = rough_bench
    gone, held = await bench.start(queue="mail"), await bench.start()
    await bench.redis.delete(bench.keys.stream("mail", 1))
    await bench.age(held, 9_000)
    assert (await bench.beat(held=[gone, held])).statuses == [HELD, HELD]
    assert await idle(bench) == [0]


async def test_forgotten_tasks(bench: Bench) -> None:
    """What the worker was given and does not name goes back, without an attempt burned."""
    forgotten, held = await bench.start(), await bench.start()
    for delivery in (forgotten, held):
        await bench.age(delivery, 11_000)
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.beat(held=[held], forgotten_ms=10_000, streams=await bench.streams())
    task = await bench.task(task_id_of(forgotten))
    assert (task["s"], task["a"], task.get("l")) == ("p", "0", None)
    assert await bench.state(task_id_of(held)) is TaskState.RUNNING
    assert (await bench.snapshot())["wake:default"] == ["1"]
    assert (await bench.events())[-1].type == "task.queued"


async def test_young_deliveries_are_not_forgotten(bench: Bench) -> None:
    """A reply may still be under way: only what is old enough goes back."""
    delivery = await bench.start()
    await bench.age(delivery, 9_000)
    await bench.beat(forgotten_ms=10_000, streams=await bench.streams())
    assert await bench.state(task_id_of(delivery)) is TaskState.RUNNING


async def test_result_after_it_was_forgotten(bench: Bench) -> None:
    """The late result is refused; the task runs once more rather than being lost."""
    delivery = await bench.start()
    await bench.beat(streams=await bench.streams())
    assert await bench.w1.complete([complete(delivery)]) == [OutcomeStatus.STALE]
    again = (await bench.fetch()).deliveries[0]
    assert await bench.w1.complete([complete(again)]) == [OutcomeStatus.ACCEPTED]


async def test_tasks_of_the_former_instance(bench: Bench) -> None:
    """A process that took over a name leaves its predecessor's tasks to recover; none is lost."""
    delivery = await bench.start()
    await bench.age(delivery, 12_000)
    await bench.redis.delete(bench.keys.worker("w1"))
    bench.w1 = bench.broker.session("w1", "i2")
    await bench.join()
    before = await bench.snapshot()
    await bench.beat(forgotten_ms=10_000, streams=await bench.streams())
    found = changes(before, await bench.snapshot())
    assert set(found) <= {"w:w1"}
    await bench.age(delivery, LEASE_MS)
    recovered = await bench.w1.recover(1, streams=await bench.streams())
    assert [(d.digits, d.number) for d in recovered.deliveries] == [(delivery.digits, 2)]


async def test_never_started_deliveries_stay(bench: Bench) -> None:
    """An entry that was read and whose task still waits is recover's as well."""
    await bench.join()
    task_id = await bench.submit()
    stream = bench.keys.stream("default", 1)
    await bench.redis.xreadgroup(GROUP, "w1", {stream: ">"})
    await bench.beat(streams=await bench.streams())
    [(digits, _, owner)] = (await bench.snapshot())["q:default:1"]
    assert (digits, owner) == (id_to_hex(task_id), "w1")
    await bench.redis.xautoclaim(stream, GROUP, "w1", 0)
    await bench.redis.xclaim(stream, GROUP, "w1", 0, await entries(bench), idle=LEASE_MS)
    assert len((await bench.w1.recover(1, streams=[stream])).deliveries) == 1


async def entries(bench: Bench) -> list[str]:
    return [entry for _, entry, _ in (await bench.snapshot())["q:default:1"]]


async def test_orphans_are_removed(bench: Bench) -> None:
    """A pending entry without a task behind it goes; what the same beat names stays, at any age."""
    delivery = await bench.start()
    stream = bench.keys.stream("default", 1)
    await bench.redis.xadd(stream, {"i": "0" * 32})
    await bench.redis.xreadgroup(GROUP, "w1", {stream: ">"})
    await bench.beat(held=[delivery], streams=[stream])
    assert (await bench.snapshot())["q:default:1"] == [(delivery.digits, delivery.entry_id, "w1")]


async def test_limits(bench: Bench) -> None:
    """More than 100 leases are refused; at most 100 forgotten entries are looked at."""
    await bench.join()
    delivery = await bench.start()
    with pytest.raises(BrokerError, match="at most 100 leases"):
        await bench.beat(held=[delivery] * 101)
    for queue in ("mail", "images"):
        await bench.broker.submit_many([bench.new(queue=queue) for _ in range(80)])
    await bench.fetch(100)
    await bench.fetch(60)
    await bench.beat(streams=await bench.streams())
    stats = await bench.broker.inspection.queue_stats()
    assert sum(depth.pending_unacked for depth in stats.depths.values()) == 61


async def test_types_are_limited(bench: Bench) -> None:
    """At most 200 types become metric labels; those that are known go on."""
    await bench.join()
    for start in (0, 150):
        await bench.beat(types=[f"t{n}" for n in range(start, start + 150)])
    assert await bench.redis.zcard(bench.keys.types) == 200
    await bench.advance(5)
    await bench.beat(types=["t7", "t299"])
    types = (await bench.snapshot())["types"]
    assert (types["t7"], "t299" in types) == (bench.now, False)


async def test_grace_after_silence(bench: Bench) -> None:
    """The first beat after more than a lease of silence starts a grace time for all leases."""
    await bench.join()
    await bench.advance(LEASE_MS)
    await bench.beat()
    assert "grace" not in (await bench.snapshot())["meta"]
    await bench.advance(LEASE_MS + 1)
    await bench.beat()
    assert (await bench.snapshot())["meta"]["grace"] == str(bench.now + LEASE_MS // 3 + 1_000)
