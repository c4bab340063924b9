"""fetch: outcomes in, tasks out, in one round trip."""

from __future__ import annotations

import pytest
from bench import Bench, changes, complete, task_id_of

from taskqueue_core.errors import BrokerError
from taskqueue_core.keys import GROUP, id_to_hex
from taskqueue_core.models import OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def test_take_one(bench: Bench) -> None:
    """A fetched task runs: it is the worker's in the hash and on the pending list."""
    await bench.join()
    task_id = await bench.submit(max_retries=2, timeout_seconds=9, payload=b'"' + b"x" * 70 + b'"')
    before = await bench.snapshot()
    fetched = await bench.fetch()
    after = await bench.snapshot()
    digits = id_to_hex(task_id)
    [delivery] = fetched.deliveries
    found = changes(before, after)
    [(kind, data)] = found.pop("events")
    assert (kind, data["worker_id"], "scheduled_at" in data) == ("task.started", "w1", False)
    assert found == {
        f"t:{digits}": {"s": "r", "f": "1:i1", "a": "1", "g": str(bench.now), "w": "w1"},
        "q:default:1": [(digits, delivery.entry_id, "w1")],
        "w:w1": {"n0": "2", "i0": f"{digits}:1"},
        "meta": {"events": "3"},
    }
    assert (delivery.number, delivery.attempts, delivery.lost_leases) == (1, 1, 0)
    assert (delivery.max_retries, delivery.timeout_seconds) == (2, 9)
    assert delivery.body == b'["' + b"x" * 70 + b'"]'
    assert (fetched.is_known, fetched.is_paused, fetched.next_due_ms) == (True, False, None)


async def test_started_names_the_time_it_was_scheduled_for(bench: Bench) -> None:
    """``task.started`` carries ``scheduled_at`` of a task that had one."""
    await bench.join()
    await bench.submit(scheduled_at_ms=bench.now + 10)
    await bench.advance(15)
    await bench.fetch()
    *_, queued, started = await bench.events()
    assert (queued.type, started.type) == ("task.queued", "task.started")
    assert "scheduled_at" in started.data


async def test_outcomes_and_tasks_together(bench: Bench) -> None:
    """One call ends deliveries and takes the next tasks."""
    delivery = await bench.start()
    following = await bench.submit()
    fetched = await bench.fetch(5, outcomes=[complete(delivery)])
    assert fetched.statuses == [OutcomeStatus.ACCEPTED]
    assert [task_id_of(d) for d in fetched.deliveries] == [following]
    assert await bench.state(task_id_of(delivery)) is TaskState.COMPLETED


async def test_paused_or_unknown_workers_get_nothing(bench: Bench) -> None:
    """They may report, and still promote what is due, but take no task."""
    delivery = await bench.start()
    await bench.submit()
    due = await bench.submit(scheduled_at_ms=bench.now + 1)
    await bench.advance(1)
    await bench.broker.pause("w1")
    fetched = await bench.fetch(5, outcomes=[complete(delivery)])
    assert (fetched.deliveries, fetched.is_known, fetched.is_paused) == ([], True, True)
    assert fetched.statuses == [OutcomeStatus.ACCEPTED]
    assert await bench.state(due) is TaskState.PENDING
    stranger = await bench.fetch(5, session=bench.broker.session("w9", "i9"))
    assert (stranger.deliveries, stranger.is_known) == ([], False)
    impostor = await bench.fetch(5, session=bench.broker.session("w1", "i9"))
    assert (impostor.deliveries, impostor.is_known) == ([], False)


async def test_next_due(bench: Bench) -> None:
    """The answer says when to look again."""
    await bench.join()
    await bench.submit(scheduled_at_ms=bench.now + 1_234)
    assert (await bench.fetch()).next_due_ms == 1_234


async def test_queue_version_grows_with_a_new_queue(bench: Bench) -> None:
    """A worker that serves all queues sees that there is one more."""
    await bench.join()
    old = (await bench.fetch()).queues_version
    await bench.submit(queue="mail")
    assert (await bench.fetch()).queues_version == old + 1


async def test_more_than_a_hundred(bench: Bench) -> None:
    """More than 100 tasks or outcomes are refused before anything is written."""
    delivery = await bench.start()
    before = await bench.snapshot()
    for wanted, outcomes in ((101, 0), (1, 101)):
        with pytest.raises(BrokerError, match="at most 100"):
            await bench.fetch(wanted, outcomes=[complete(delivery)] * outcomes)
    assert await bench.snapshot() == before


async def test_bell_when_more_is_left(bench: Bench) -> None:
    """A full answer wakes the next worker; one that saw everything does not."""
    await bench.join()
    for _ in range(3):
        await bench.submit()
    for left, bells in ((2, ["1"]), (1, ["1"])):
        await bench.redis.delete(bench.keys.bell("default"))
        await bench.fetch(1)
        snapshot = await bench.snapshot()
        assert snapshot.get("wake:default") == bells
        assert sum(not owner for *_, owner in snapshot["q:default:1"]) == left
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.fetch(2)
    assert "wake:default" not in await bench.snapshot()


async def test_bell_for_what_is_promoted_for_others(bench: Bench) -> None:
    """A due task of a queue that this worker does not serve, or not now, wakes those who do."""
    await bench.join()
    for queue in ("mail", "default"):
        await bench.submit(queue=queue, scheduled_at_ms=bench.now + 10)
    await bench.advance(10)
    await bench.redis.delete(bench.keys.bell("mail"), bench.keys.bell("default"))
    await bench.fetch(5, streams=[bench.keys.stream("mail", 1)])
    snapshot = await bench.snapshot()
    assert snapshot["wake:default"] == ["1"]
    assert "wake:mail" not in snapshot


async def test_bell_when_a_full_worker_promotes(bench: Bench) -> None:
    """A worker without a free slot promotes for the others, and wakes one."""
    await bench.join()
    await bench.submit(scheduled_at_ms=bench.now + 10)
    await bench.advance(10)
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.fetch(0)
    assert (await bench.snapshot())["wake:default"] == ["1"]


async def test_group_made_anew(bench: Bench) -> None:
    """Without its group a stream is served again from its start; what runs is not lost by it."""
    running = await bench.start()
    waiting = await bench.submit()
    await bench.redis.xgroup_destroy(bench.keys.stream("default", 1), GROUP)
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    fetched = await bench.fetch(5, session=other)
    assert [task_id_of(d) for d in fetched.deliveries] == [waiting]
    rows = (await bench.snapshot())["q:default:1"]
    assert [(digits, owner) for digits, _, owner in rows] == [
        (running.digits, "w2"),
        (id_to_hex(waiting), "w2"),
    ]
    # The owner's next heartbeat takes its lease back, the other one's does not disturb it.
    await bench.beat(other, held=fetched.deliveries, streams=await bench.streams())
    await bench.beat(held=[running])
    assert (await bench.snapshot())["q:default:1"][0][2] == "w1"
    assert await bench.w1.complete([complete(running)]) == [OutcomeStatus.ACCEPTED]


async def test_deleted_stream(bench: Bench) -> None:
    """A stream that was deleted by hand is made again, with what comes after."""
    await bench.join()
    await bench.submit()
    await bench.fetch()
    await bench.redis.delete(bench.keys.stream("default", 2))
    assert (await bench.fetch(5)).deliveries == []
    groups = await bench.redis.xinfo_groups(bench.keys.stream("default", 2))
    assert [group["name"] for group in groups] == [GROUP.encode()]


async def test_stream_of_another_type(rough_bench: Bench) -> None:
    """A key that is no stream does not undo the outcomes of the call, or stop other streams."""
    bench = rough_bench
    delivery = await bench.start()
    following = await bench.submit(priority=0)
    stream = bench.keys.stream("default", 3)
    await bench.redis.delete(stream)
    await bench.redis.set(stream, "nonsense")
    fetched = await bench.fetch(5, outcomes=[complete(delivery)])
    assert [task_id_of(d) for d in fetched.deliveries] == [following]
    assert (await bench.events())[-2].type == "task.completed"


async def test_orphans_are_cleared_in_steps(bench: Bench) -> None:
    """Entries without a waiting task are removed, a bounded number a call, and the bell rings."""
    await bench.join()
    stream = bench.keys.stream("default", 1)
    await bench.submit()
    for _ in range(250):
        await bench.redis.xadd(stream, {"i": "0" * 32})
    last = await bench.submit()
    assert len((await bench.fetch(60)).deliveries) == 1
    await bench.redis.delete(bench.keys.bell("default"))
    assert (await bench.fetch(60)).deliveries == []
    assert (await bench.snapshot())["wake:default"] == ["1"]
    assert [task_id_of(d) for d in (await bench.fetch(60)).deliveries] == [last]
    assert (await bench.broker.inspection.stats())["orphans"] == 250
