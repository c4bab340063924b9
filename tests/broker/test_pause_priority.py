"""pause_priority: no task of a priority starts, in any queue, until it is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench import DAY_MS, LEASE_MS, Bench, changes, complete, hold, task_id_of

from taskqueue_core.broker import Broker, open_redis, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.keys import GROUP, id_to_hex
from taskqueue_core.models import OutcomeStatus, Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio


async def paused(broker: Broker) -> set[Priority]:
    """Return the priorities that are shown as paused."""
    depths = (await broker.inspection.queue_stats()).depths
    return {priority for priority, depth in depths.items() if depth.is_paused}


async def taken(bench: Bench, wanted: int = 9, **fields: Any) -> list[str]:
    """Return the ids of the tasks that a fetch hands out, in order."""
    fetched = await bench.fetch(wanted, **fields)
    return [task_id_of(delivery) for delivery in fetched.deliveries]


async def test_flag_and_event(bench: Bench) -> None:
    """Pausing writes a flag, resuming takes it away and rings the bell of every queue."""
    await bench.submit(queue="mail")
    await bench.submit()
    await bench.redis.delete(bench.keys.bell("mail"), bench.keys.bell("default"))
    start = await bench.snapshot()
    await bench.broker.priorities.pause(Priority.HIGH)
    during = await bench.snapshot()
    assert changes(start, during) == {
        "meta": {"events": "3", "paused_priorities": "2"},
        "events": [("queue.paused", {"priority": "high"})],
    }
    await bench.broker.priorities.resume(Priority.HIGH)
    assert changes(during, await bench.snapshot()) == {
        "meta": {"events": "4", "paused_priorities": None, "resumed:2": str(bench.now)},
        "wake:mail": ["1"],
        "wake:default": ["1"],
        "events": [("queue.resumed", {"priority": "high"})],
    }


async def test_each_priority_by_itself(bench: Bench) -> None:
    """All of them can be paused, and resumed in any order."""
    for priority in Priority:
        await bench.broker.priorities.pause(priority)
    assert await paused(bench.broker) == set(Priority)
    for priority in (Priority.HIGH, Priority.LOW):
        await bench.broker.priorities.resume(priority)
    assert await paused(bench.broker) == {Priority.NORMAL, Priority.CRITICAL}


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_a_repeat_changes_nothing(bench: Bench, verb: str) -> None:
    """It is no error, and no second event."""
    call = getattr(bench.broker.priorities, verb)
    await bench.submit()
    await call(Priority.NORMAL)
    await bench.redis.delete(bench.keys.bell("default"))
    before = await bench.snapshot()
    await call(Priority.NORMAL)
    assert changes(before, await bench.snapshot()) == {}


async def test_the_others_in_their_order(bench: Bench) -> None:
    """Its streams are passed over in every queue; the rest starts by priority."""
    await bench.join()
    low = await bench.submit(priority=0)
    high = [await bench.submit(priority=2, queue=queue) for queue in ("default", "mail")]
    critical = await bench.submit(priority=3)
    await bench.broker.priorities.pause(Priority.HIGH)
    assert await taken(bench) == [critical, low]
    # Nor is anything given to a worker that comes now.
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    assert await taken(bench, session=other) == []
    await bench.broker.priorities.resume(Priority.HIGH)
    assert await taken(bench, session=other) == high


async def test_what_runs_goes_on(bench: Bench) -> None:
    """A running task keeps its lease and ends as always; a lost answer is still given again."""
    delivery = await bench.start()
    await bench.broker.priorities.pause(Priority.NORMAL)
    request = {"streams": await bench.streams(), "request": bench._requests}
    again = await bench.w1.fetch(100, **request)
    assert [one.digits for one in again.deliveries] == [delivery.digits]
    assert (await bench.beat(held=[delivery])).statuses == [1]
    assert await bench.w1.complete([complete(delivery)]) == [OutcomeStatus.ACCEPTED]


async def test_everything_but_a_start(bench: Bench) -> None:
    """Tasks are accepted, come due, are cancelled and purged while their priority is paused."""
    await bench.join()
    await bench.broker.priorities.pause(Priority.NORMAL)
    waiting, cancelled = await bench.submit(), await bench.submit()
    due = await bench.submit(scheduled_at_ms=bench.now + 10)
    await bench.broker.cancel(cancelled)
    await bench.advance(10)
    assert await taken(bench) == []
    assert [await bench.state(one) for one in (waiting, due)] == [TaskState.PENDING] * 2
    assert await bench.broker.purge(Priority.NORMAL) == 2


async def test_a_full_stream_calls_nobody(bench: Bench) -> None:
    """A fetch that may start nothing rings no bell and has nothing due."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(30)])
    await bench.submit(scheduled_at_ms=bench.now + 10)
    await bench.broker.priorities.pause(Priority.NORMAL)
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.advance(10)
    fetched = await bench.fetch(4)
    assert (fetched.deliveries, fetched.next_due_ms) == ([], None)
    assert "wake:default" not in await bench.snapshot()


async def test_held_tasks_stay_aside(bench: Bench) -> None:
    """The worker that has the handler takes them only when they may start, and is called then."""
    skilled = bench.broker.session("w2", "i2")
    await bench.join(skilled)
    delivery = await bench.start()
    await bench.w1.hold([hold(delivery)])
    await bench.beat(skilled, types=["echo"])
    await bench.broker.priorities.pause(Priority.NORMAL)
    before = await bench.snapshot()
    assert await taken(bench, session=skilled) == []
    assert changes(before, await bench.snapshot()) == {}
    await bench.broker.priorities.resume(Priority.NORMAL)
    assert await bench.redis.llen(bench.keys.own_bell("w2")) == 1
    assert await taken(bench, session=skilled) == [task_id_of(delivery)]


async def test_a_pause_is_no_want_of_a_handler(bench: Bench) -> None:
    """Held for longer than may be, a task has its time anew after a resume, and once only."""
    delivery = await bench.start()
    await bench.w1.hold([hold(delivery)])
    await bench.broker.priorities.pause(Priority.NORMAL)
    await bench.advance(DAY_MS)
    assert await taken(bench) == []
    await bench.broker.priorities.resume(Priority.NORMAL)
    for pause_ms, state in ((1, TaskState.SCHEDULED), (DAY_MS, TaskState.DEAD_LETTER)):
        await bench.advance(pause_ms)
        [again] = (await bench.fetch()).deliveries
        await bench.w1.hold([hold(again, longest_ms=3_600_000)])
        assert await bench.state(task_id_of(again)) is state


async def test_a_lost_lease_waits_again(bench: Bench) -> None:
    """It counts as lost, its attempt does not, and nobody is given the task."""
    delivery = await bench.start()
    behind = await bench.submit()
    await bench.join(bench.broker.session("w2", "i2"))
    await bench.broker.priorities.pause(Priority.NORMAL)
    await bench.age(delivery, LEASE_MS)
    before = await bench.snapshot()
    w2 = bench.broker.session("w2", "i2")
    assert (await w2.recover(9, streams=await bench.streams())).deliveries == []
    found = changes(before, await bench.snapshot())
    [(kind, data)] = found["events"]
    assert (kind, data["state"], data["attempts"]) == ("task.queued", "pending", 0)
    assert found["stats"] == {"lost": "1"}
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.attempts, task.lost_leases) == (TaskState.PENDING, 0, 1)
    order = [(digits, owner) for digits, _, owner in found["q:default:1"]]
    assert order == [(id_to_hex(behind), ""), (delivery.digits, "")]
    assert await bench.w1.complete([complete(delivery)]) == [OutcomeStatus.STALE]
    await bench.broker.priorities.resume(Priority.NORMAL)
    [first, second] = (await bench.fetch(9, session=w2)).deliveries
    assert task_id_of(first) == behind
    assert (second.number, second.attempts, second.lost_leases) == (2, 1, 1)


async def test_the_time_of_creation_stays(bench: Bench) -> None:
    """However often a task waits again, it is as old as it was."""
    delivery = await bench.start()
    created = (await bench.broker.inspection.get(task_id_of(delivery))).created_at_ms
    for _ in range(2):
        await bench.broker.priorities.pause(Priority.NORMAL)
        await bench.age(delivery, LEASE_MS)
        await bench.w1.recover(9, streams=await bench.streams())
        task = await bench.broker.inspection.get(task_id_of(delivery))
        assert (task.state, task.created_at_ms) == (TaskState.PENDING, created)
        await bench.broker.priorities.resume(Priority.NORMAL)
        [delivery] = (await bench.fetch()).deliveries


async def test_poison_is_found_out_all_the_same(bench: Bench) -> None:
    """A task that has lost its last lease becomes a dead letter, paused or not."""
    delivery = await bench.start()
    await bench.redis.hset(bench.keys.task(delivery.digits), "l", 2)
    await bench.broker.priorities.pause(Priority.NORMAL)
    await bench.age(delivery, LEASE_MS)
    w2 = bench.broker.session("w2", "i2")
    assert (await w2.recover(9, streams=await bench.streams())).deliveries == []
    assert await bench.state(task_id_of(delivery)) is TaskState.DEAD_LETTER


async def test_a_delivery_that_never_started_waits_again(bench: Bench) -> None:
    """An entry that is pending though its task waits goes back whole, and starts later."""
    await bench.join()
    task_id = await bench.submit()
    stream = bench.keys.stream("default", 1)
    [[_, [(entry, _)]]] = await bench.redis.xreadgroup(GROUP, "w1", {stream: ">"})
    await bench.redis.xclaim(stream, GROUP, "w1", 0, [entry], idle=LEASE_MS, justid=True)
    await bench.broker.priorities.pause(Priority.NORMAL)
    assert (await bench.w1.recover(9, streams=[stream])).deliveries == []
    task = await bench.broker.inspection.get(task_id)
    assert (task.state, task.attempts, task.lost_leases) == (TaskState.PENDING, 0, 0)
    await bench.broker.priorities.resume(Priority.NORMAL)
    assert await taken(bench) == [task_id]


async def test_a_partition_that_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others change, the caller is told, and a repeat does the rest; part of it is shown."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    await broker.prepare()
    call, away = Scripts.call, broker.partitions[1].meta

    async def cut_off(
        self: Scripts, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name == "pause_priority" and keys[0] == away:
            raise BrokerUnavailableError("away")
        return await call(self, name, keys, arguments)

    async def flags() -> list[bytes | None]:
        redis: Any = broker.redis
        return [await redis.hget(keys.meta, "paused_priorities") for keys in broker.partitions]

    for verb, before, after in (("pause", None, b"2"), ("resume", b"2", None)):
        change = getattr(broker.priorities, verb)
        with monkeypatch.context() as patched:
            patched.setattr(Scripts, "call", cut_off)
            with pytest.raises(BrokerUnavailableError):
                await change(Priority.HIGH)
        assert await flags() == [after, before, after]
        assert await paused(broker) == {Priority.HIGH}
        await change(Priority.HIGH)
        assert await flags() == [after] * 3
    assert await paused(broker) == set()
    await broker.close()


async def test_a_restart_of_the_broker(tmp_path: Path) -> None:
    """What is paused is paused afterwards."""
    shown = []
    for _ in range(2):
        with EmbeddedBroker(tmp_path) as embedded:
            settings = with_url(Settings(), embedded.url)
            broker = Broker(open_redis(settings), settings)
            await broker.prepare()
            if not shown:
                await broker.priorities.pause(Priority.LOW)
            shown.append(await paused(broker))
            await broker.close()
    assert shown == [{Priority.LOW}] * 2
