"""hold: a task that this worker has no handler for waits aside until one that has takes it."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes, fail, hold, task_id_of

from taskqueue_core.broker import WorkerSession
from taskqueue_core.codec import format_time
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Delivery, OutcomeStatus, Priority
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, ALREADY = OutcomeStatus.ACCEPTED, OutcomeStatus.ALREADY


async def skilled(bench: Bench, name: str, *types: str) -> WorkerSession:
    """Return a worker that has handlers for these types, and has said so."""
    session = bench.broker.session(name, f"i-{name}")
    await session.register(concurrency=4, version="1", handlers={})
    await bench.beat(session, types=types)
    return session


async def aside(bench: Bench, task_type: str = "echo", **fields: object) -> Delivery:
    """Return a delivery that ``w1`` has put aside."""
    delivery = await bench.start(task_type, **fields)
    assert await bench.w1.hold([hold(delivery)]) == [ACCEPTED]
    return delivery


async def taken(bench: Bench, session: WorkerSession, wanted: int = 9) -> list[str]:
    """Return the digits of what a worker is given."""
    fetched = await bench.fetch(wanted, session=session)
    return [delivery.digits for delivery in fetched.deliveries]


async def test_first_hold(bench: Bench) -> None:
    """The task is scheduled, without an attempt, and indexed by its type; its event says so."""
    delivery = await bench.start()
    before = await bench.snapshot()
    assert await bench.w1.hold([hold(delivery)]) == [ACCEPTED]
    now, due = str(bench.now), bench.now + 5_000
    assert changes(before, await bench.snapshot()) == {
        f"t:{delivery.digits}": {"s": "s", "a": "0", "e": now, "i": now, "n": str(due)},
        "q:default:1": [],
        "sched": {delivery.digits: due},
        "held": ["echo"],
        "hold:echo": {delivery.digits: 2 * 10**13 + bench.now},
        "stats": {"misrouted": "1"},
        "meta": {"events": "4"},
        "events": [
            (
                "task.queued",
                {
                    "task_id": task_id_of(delivery),
                    "type": "echo",
                    "priority": "normal",
                    "state": "scheduled",
                    "attempts": 0,
                    "scheduled_at": format_time(due),
                },
            )
        ],
    }


async def test_a_worker_that_has_the_handler_takes_it_at_once(bench: Bench) -> None:
    """Long before it is due, with its attempt, and nothing of its wait is left."""
    one = await skilled(bench, "w2", "mail", "echo")
    delivery = await aside(bench)
    found = (await bench.fetch(session=one)).deliveries[0]
    assert (found.digits, found.attempts, found.number) == (delivery.digits, 1, 2)
    assert not {"sched", "held", "hold:echo"} & (await bench.snapshot()).keys()


@pytest.mark.parametrize("reason", ["no handler", "no types", "paused", "nothing wanted"])
async def test_nobody_else_takes_it(bench: Bench, reason: str) -> None:
    """A worker that has no handler, or may take nothing, leaves it aside until it is due."""
    types = {"no handler": ("ech", "echos"), "no types": ()}.get(reason, ("echo",))
    one = await skilled(bench, "w2", *types)
    delivery = await aside(bench)
    if reason == "paused":
        await bench.broker.pause("w2")
    before = await bench.snapshot()
    assert await taken(bench, one, 0 if reason == "nothing wanted" else 9) == []
    assert changes(before, await bench.snapshot()) == {}
    await bench.advance(5_000)
    assert await taken(bench, bench.w1) == [delivery.digits]
    assert not {"sched", "held", "hold:echo"} & (await bench.snapshot()).keys()


async def test_a_worker_that_joins_later_takes_it(bench: Bench) -> None:
    """It needs no call: its first beat names its types, and its first fetch goes by them."""
    delivery = await aside(bench)
    assert await taken(bench, await skilled(bench, "w2", "echo")) == [delivery.digits]


async def test_only_what_the_worker_serves_comes_back(bench: Bench) -> None:
    """A task in a queue that it does not read would only be misrouted again."""
    one = await skilled(bench, "w2", "echo")
    mail, default = await aside(bench, queue="mail"), await aside(bench)
    streams = [bench.keys.stream("default", priority) for priority in (3, 2, 1, 0)]
    fetched = await bench.fetch(9, session=one, streams=streams)
    assert [found.digits for found in fetched.deliveries] == [default.digits]
    assert (await bench.snapshot())["hold:echo"].keys() == {mail.digits}
    assert await taken(bench, one) == [mail.digits]


async def test_critical_and_old_ones_first(bench: Bench) -> None:
    """As many come back as are wanted, over all types, in the order of priority and wait."""
    one = await skilled(bench, "w2", "a", "b", "c")
    held = []
    for task_type, priority in (("b", 1), ("a", 1), ("b", 3), ("a", 0), ("c", 3), ("a", 3)):
        held.append(await aside(bench, task_type, priority=Priority(priority)))
        await bench.advance(1)
    order = [held[n].digits for n in (2, 4, 5, 0, 1, 3)]
    assert await taken(bench, one, 2) == order[:2]
    assert len((await bench.snapshot())["sched"]) == 4
    assert await taken(bench, one, 3) == order[2:5]
    assert (await bench.snapshot())["held"] == ["a"]
    assert await taken(bench, one) == order[5:]


async def test_what_waits_in_the_stream_is_not_overtaken(bench: Bench) -> None:
    """Strict priority holds: it comes back behind those that wait, but before lower ones."""
    one = await skilled(bench, "w2", "echo")
    held = await aside(bench)
    low, normal = [id_to_hex(await bench.submit(priority=Priority(n))) for n in (0, 1)]
    assert await taken(bench, one) == [normal, held.digits, low]


async def test_those_who_can_are_called(bench: Bench) -> None:
    """Each live worker that has the handler, by a bell of its own that falls silent by itself."""
    for name, types in (("w2", ["mail"]), ("w3", ["echo"]), ("w4", ["a", "echo"])):
        await skilled(bench, name, *types)
    await skilled(bench, "w5", "echo")
    await bench.redis.delete(bench.keys.worker("w5"))
    for _ in range(2):
        await aside(bench)
    calls = {name: row for name, row in (await bench.snapshot()).items() if "call:" in name}
    assert calls == {"call:w3": ["1"], "call:w4": ["1"]}
    assert 0 < await bench.redis.pttl(bench.keys.own_bell("w3")) <= LEASE_MS
    assert await bench.broker.session("w3", "i-w3").deregister()
    assert "call:w3" not in await bench.snapshot()


async def test_at_most_sixteen_are_called(bench: Bench) -> None:
    """In turn, so that others are the next time."""
    for number in range(20):
        await skilled(bench, f"s{number}", "echo")
    called: set[str] = set()
    for _ in range(2):
        await aside(bench)
        calls = {name for name in await bench.snapshot() if name.startswith("call:")}
        assert len(calls) == 16
        called |= calls
        await bench.redis.delete(*(bench.keys.prefix + name for name in calls))
        await bench.advance(10)
    assert len(called) == 20


async def test_many_come_back_a_hundred_at_a_time(bench: Bench) -> None:
    """However many there are; the rest stays where it is."""
    await bench.join()
    one = await skilled(bench, "w2", "echo")
    for _ in range(3):
        await bench.broker.submit_many([bench.new() for _ in range(50)])
        deliveries = (await bench.fetch(50)).deliveries
        await bench.w1.hold([hold(delivery) for delivery in deliveries])
    assert len(await taken(bench, one, 100)) == 100
    assert len((await bench.snapshot())["hold:echo"]) == 50


async def test_a_cancelled_task_is_held_no_more(bench: Bench) -> None:
    """Nor is its type, unless another task of it is."""
    first, second, _ = await aside(bench), await aside(bench), await aside(bench, "mail")
    await bench.broker.cancel(task_id_of(first))
    snapshot = await bench.snapshot()
    assert (snapshot["held"], snapshot["hold:echo"].keys()) == (["echo", "mail"], {second.digits})
    await bench.broker.cancel(task_id_of(second))
    assert (await bench.snapshot())["held"] == ["mail"]


async def test_a_task_that_is_due_is_held_no_more(bench: Bench) -> None:
    """Whoever promotes it, anybody may be given it."""
    delivery = await aside(bench)
    await bench.advance(5_000)
    await bench.broker.promote()
    assert not {"sched", "held", "hold:echo"} & (await bench.snapshot()).keys()
    assert await taken(bench, bench.w1) == [delivery.digits]


async def test_a_member_that_is_not_held_is_dropped(rough_bench: Bench) -> None:
    """The task itself says where it is; nothing is started twice."""
    bench = rough_bench
    one = await skilled(bench, "w2", "echo")
    delivery = await aside(bench)
    await bench.redis.hset(bench.keys.task(delivery.digits), "s", "x")
    assert await taken(bench, one) == []
    assert not {"held", "hold:echo"} & (await bench.snapshot()).keys()
    assert (await bench.broker.inspection.stats())["orphans"] == 1


async def test_every_look_is_as_far_away(bench: Bench) -> None:
    """Held again it waits as long again, and counts from its first time."""
    since = bench.now
    delivery = await bench.start()
    for number in range(1, 4):
        await bench.w1.hold([hold(delivery, cap_ms=700)])
        assert (await bench.snapshot())["sched"][delivery.digits] - bench.now == 700
        assert (await bench.task(task_id_of(delivery)))["i"] == str(since)
        await bench.advance(700)
        delivery = (await bench.fetch()).deliveries[0]
        assert (delivery.attempts, delivery.number) == (1, number + 1)


async def test_given_up(bench: Bench) -> None:
    """It is looked at when its time is over, and becomes a dead letter: its last error replaced,
    its hash small, and no longer held."""
    await bench.join()
    delivery = await bench.start("t" * 64)
    await bench.w1.fail([fail(delivery, b"e" * 65, max_retries=1)])
    delivery = (await bench.fetch()).deliveries[0]
    await bench.w1.hold([hold(delivery, longest_ms=1_000)])
    await bench.advance(1_001)
    delivery = (await bench.fetch()).deliveries[0]
    assert await bench.w1.hold([hold(delivery, longest_ms=1_000)]) == [ACCEPTED]
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.reason, task.attempts) == (TaskState.DEAD_LETTER, "unhandled", 1)
    assert task.error == "no worker handles the type " + "t" * 64
    assert "held" not in await bench.snapshot()
    key = bench.keys.task(delivery.digits)
    assert await bench.redis.object("ENCODING", key) == b"listpack"


async def test_a_failed_attempt_ends_the_wait(bench: Bench) -> None:
    """A worker that has the handler starts the measure anew."""
    await aside(bench)
    await bench.advance(5_000)
    delivery = (await bench.fetch()).deliveries[0]
    await bench.w1.fail([fail(delivery, max_retries=1)])
    assert "i" not in await bench.task(task_id_of(delivery))


async def test_repeat(bench: Bench) -> None:
    """The same hold again is already taken."""
    delivery = await bench.start()
    assert await bench.w1.hold([hold(delivery)] * 2) == [ACCEPTED, ALREADY]
    before = await bench.snapshot()
    await bench.advance(10)
    assert await bench.w1.hold([hold(delivery)]) == [ALREADY]
    assert changes(before, await bench.snapshot()) == {}
