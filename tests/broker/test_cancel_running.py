"""cancel of a running task: its worker is asked to stop it, and it never runs again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from bench import DAY_MS, LEASE_MS, Bench, changes, complete, fail, hold, release, task_id_of

from taskqueue_core.errors import NotFoundError, StateConflictError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Attempt, Delivery, LeaseStatus, OutcomeStatus
from taskqueue_core.states import CANCELLABLE, TERMINAL, TaskState

pytestmark = pytest.mark.anyio

Ending = Callable[[Bench, Delivery], Awaitable[object]]


async def stop(bench: Bench, delivery: Delivery) -> bool:
    """Ask for the end of a running task."""
    return await bench.broker.cancel(task_id_of(delivery), running=True)


async def test_request(bench: Bench) -> None:
    """The task is marked and its worker told; it runs on, and nobody is told of an end."""
    delivery = await bench.start()
    before = await bench.snapshot()
    assert not await stop(bench, delivery)
    found = changes(before, await bench.snapshot())
    assert len(found[f"t:{delivery.digits}"].pop("x")) == 16
    assert found == {
        f"t:{delivery.digits}": {"X": "1"},
        "ctl:w1": [f"cancel {delivery.digits} 1"],
    }
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.is_cancel_requested) == (TaskState.RUNNING, True)
    left = await bench.redis.pttl(bench.keys.control("w1"))
    assert 0 < left <= LEASE_MS


async def test_again(bench: Bench) -> None:
    """Asking again is answered alike; the worker is told once."""
    delivery = await bench.start()
    keys = [bench.keys.meta, bench.keys.task(delivery.digits)]
    for token in ("one", "one", "two"):
        call = bench.broker.scripts.call("cancel", keys, [delivery.digits, token, "", 1])
        assert await call == b"+"
    assert len((await bench.snapshot())["ctl:w1"]) == 1


@pytest.mark.parametrize("ending", ["complete", "release"])
async def test_a_repeat_after_the_end(bench: Bench, ending: str) -> None:
    """A call whose reply was lost is answered as one that was heard, whatever came of it."""
    delivery = await bench.start()
    keys = [bench.keys.meta, bench.keys.task(delivery.digits)]
    arguments = [delivery.digits, "token", "", 1]
    assert await bench.broker.scripts.call("cancel", keys, arguments) == b"+"
    outcome = complete(delivery) if ending == "complete" else release(delivery)
    await getattr(bench.w1, ending)([outcome])
    before = await bench.snapshot()
    again = await bench.broker.scripts.call("cancel", keys, arguments)
    assert again == (b"+" if ending == "complete" else b"")
    assert changes(before, await bench.snapshot()) == {}
    with pytest.raises(StateConflictError):
        await stop(bench, delivery)


async def test_the_messages_are_bounded(bench: Bench) -> None:
    """A worker that does not listen has no more than a hundred of them."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(101)])
    for delivery in [*(await bench.fetch(100)).deliveries, *(await bench.fetch(1)).deliveries]:
        await stop(bench, delivery)
    assert len((await bench.snapshot())["ctl:w1"]) == 100
    await bench.broker.pause("w1")
    assert (await bench.snapshot())["ctl:w1"][-1] == "pause"


@pytest.mark.parametrize("state", sorted(CANCELLABLE))
async def test_what_does_not_run_is_cancelled(bench: Bench, state: TaskState) -> None:
    """At once, as without the wish to stop running ones."""
    task_id, _ = await bench.make(state)
    assert await bench.broker.cancel(task_id, running=True)
    assert await bench.state(task_id) is TaskState.CANCELLED
    assert "X" not in await bench.task(task_id)


async def test_a_mark_that_an_old_worker_has_left(bench: Bench) -> None:
    """A task that was sent on all the same is cancelled as any other, and shows no request."""
    task_id, _ = await bench.make(TaskState.RETRYING)
    await bench.redis.hset(bench.keys.task(id_to_hex(task_id)), "X", 1)
    assert await bench.broker.cancel(task_id)
    assert "X" not in await bench.task(task_id)


@pytest.mark.parametrize("state", sorted(TERMINAL))
async def test_what_has_ended_is_a_conflict(bench: Bench, state: TaskState) -> None:
    """Nothing changes."""
    task_id, _ = await bench.make(state)
    before = await bench.snapshot()
    with pytest.raises(StateConflictError, match=f"is {state}: [^;]*$"):
        await bench.broker.cancel(task_id, running=True)
    assert changes(before, await bench.snapshot()) == {}


async def test_a_plain_cancel_says_how(bench: Bench) -> None:
    """Who did not ask for it is refused, and told what to ask for."""
    delivery = await bench.start()
    with pytest.raises(StateConflictError, match=r"is running: .*with running=true"):
        await bench.broker.cancel(task_id_of(delivery))


async def test_another_owners_task_is_missing(bench: Bench) -> None:
    """Nobody else can stop it, or learn that it is there."""
    delivery = await bench.start(owner="acme")
    before = await bench.snapshot()
    for owner in ("other", "Acme"):
        with pytest.raises(NotFoundError):
            await bench.broker.cancel(task_id_of(delivery), owner=owner, running=True)
    assert changes(before, await bench.snapshot()) == {}
    assert not await bench.broker.cancel(task_id_of(delivery), owner="acme", running=True)


async def forget(bench: Bench, delivery: Delivery) -> None:
    """Have the worker not know of it."""
    await bench.beat(streams=await bench.streams())


async def lose(bench: Bench, delivery: Delivery) -> None:
    """Have the worker die, and another one look for what it has left."""
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    await bench.age(delivery, LEASE_MS)
    recovered = await other.recover(9, streams=await bench.streams())
    assert recovered.deliveries == []


async def lose_for_the_last_time(bench: Bench, delivery: Delivery) -> None:
    """Have it take a worker along that is not the first."""
    await bench.redis.hset(bench.keys.task(delivery.digits), "l", 2)
    await lose(bench, delivery)


async def damage(bench: Bench, delivery: Delivery) -> None:
    """Have its stream deleted by hand, and repair that."""
    await bench.redis.delete(bench.keys.stream("default", 1))
    repairs = [sentence async for sentence in bench.broker.repair()]
    sentence = "was running without a lease and asked to stop: it is cancelled"
    assert repairs == [f"task {delivery.digits} {sentence}"]


ENDINGS: dict[str, tuple[Ending, int]] = {
    "to be retried": (lambda b, d: b.w1.fail([fail(d, max_retries=5)]), 1),
    "out of retries": (lambda b, d: b.w1.fail([fail(d)]), 1),
    "hopeless": (lambda b, d: b.w1.fail([fail(d, reason="non_retryable")]), 1),
    "dropped": (lambda b, d: b.w1.fail([fail(d, is_dropped=True)]), 1),
    "released": (lambda b, d: b.w1.release([release(d)]), 0),
    "misrouted": (lambda b, d: b.w1.hold([hold(d)]), 0),
    "misrouted too long": (lambda b, d: b.w1.hold([hold(d, longest_ms=-1)]), 0),
    "reported with a fetch": (lambda b, d: b.fetch(9, outcomes=[fail(d, max_retries=5)]), 1),
    "forgotten": (forget, 0),
    "lost": (lose, 0),
    "lost too often": (lose_for_the_last_time, 0),
    "repaired": (damage, 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_it_ends_as_cancelled(bench: Bench, ending: str) -> None:
    """Whatever becomes of the attempt: one event, no retry, no dead letter, nothing left behind."""
    delivery = await bench.start()
    await stop(bench, delivery)
    seen = len(await bench.events())
    act, attempts = ENDINGS[ending]
    await act(bench, delivery)
    told = [event for event in await bench.events(seen) if event.type.startswith("task.")]
    assert [(event.type, event.data["state"]) for event in told] == [
        ("task.cancelled", "cancelled")
    ]
    task = await bench.task(task_id_of(delivery))
    assert (task["s"], task["e"], int(task["a"])) == ("x", str(bench.now), attempts)
    assert not {"X", "k"} & task.keys()
    after = await bench.snapshot()
    assert after["done"] == {delivery.digits: bench.now + 7 * DAY_MS}
    assert after["stats"]["backlog"] == "0"
    assert not {"sched", "dlq", "hold:echo"} & after.keys()
    await bench.advance(60_000)
    assert (await bench.fetch(9)).deliveries == []


async def test_its_last_error_and_attempt_are_kept(bench: Bench) -> None:
    """What an attempt had to say is there to be read, also when it is long."""
    delivery = await bench.start()
    await stop(bench, delivery)
    history = b'{"attempt":1,"delivery":1,"worker_id":"w1","started_at_ms":1,"ended_at_ms":2,'
    outcome = fail(delivery, b"x" * 80, max_retries=5, history=history + b'"error":"x"}')
    assert await bench.w1.fail([outcome]) == [OutcomeStatus.ACCEPTED]
    assert await bench.w1.fail([outcome]) == [OutcomeStatus.ALREADY]
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.error) == (TaskState.CANCELLED, "x" * 80)
    [attempt] = await bench.broker.inspection.attempts(task_id_of(delivery))
    assert isinstance(attempt, Attempt)


async def test_a_result_still_counts(bench: Bench) -> None:
    """Work that is done is done: the task is completed, and nothing is left of the request."""
    delivery = await bench.start()
    await stop(bench, delivery)
    seen = len(await bench.events())
    assert await bench.w1.complete([complete(delivery)]) == [OutcomeStatus.ACCEPTED]
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.state, task.result) == (TaskState.COMPLETED, b"true")
    assert not task.is_cancel_requested
    assert [event.type for event in await bench.events(seen)] == ["task.completed"]


async def test_a_result_after_the_end_is_refused(bench: Bench) -> None:
    """Once the task is cancelled, the worker that was given up changes nothing."""
    delivery = await bench.start()
    await stop(bench, delivery)
    await lose(bench, delivery)
    before = await bench.snapshot()
    assert await bench.w1.complete([complete(delivery)]) == [OutcomeStatus.STALE]
    assert changes(before, await bench.snapshot()) == {"stats": {"stale": "1"}}


async def test_heartbeats_say_so(bench: Bench) -> None:
    """Until it has ended, with every beat, and its lease is kept: a lost message is no matter."""
    asked, other = await bench.start(), await bench.start()
    await stop(bench, asked)
    for _ in range(2):
        await bench.age(asked, 9_000)
        beat = await bench.beat(held=[asked, other])
        assert beat.statuses == [LeaseStatus.CANCEL_REQUESTED, LeaseStatus.HELD]
    stream = bench.keys.stream("default", 1)
    assert await bench.redis.xpending_range(stream, "workers", "-", "+", 9, idle=5_000) == []
    await bench.w1.complete([complete(asked)])
    assert (await bench.beat(held=[asked, other])).statuses[0] is LeaseStatus.LOST


@pytest.mark.parametrize("ending", ["release", "complete", "fail"])
async def test_a_later_life_knows_nothing_of_it(bench: Bench, ending: str) -> None:
    """A task that is sent back runs as any other, also when an old worker has left a mark."""
    delivery = await bench.start()
    await stop(bench, delivery)
    await bench.w1.release([release(delivery)])
    await bench.redis.hset(bench.keys.task(delivery.digits), "X", 1)
    await bench.broker.retry(task_id_of(delivery))
    [again] = (await bench.fetch(9)).deliveries
    assert (await bench.beat(held=[again])).statuses == [LeaseStatus.HELD]
    outcome = {"release": release, "complete": complete, "fail": fail}[ending](again)
    assert await getattr(bench.w1, ending)([outcome]) == [OutcomeStatus.ACCEPTED]
    expected = {"release": "pending", "complete": "completed", "fail": "dead_letter"}
    assert await bench.state(task_id_of(delivery)) == expected[ending]


async def take_over(bench: Bench, delivery: Delivery) -> None:
    """Have another worker take it over, if that may be."""
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    await bench.age(delivery, LEASE_MS)
    await other.recover(9, streams=await bench.streams())


@pytest.mark.parametrize(
    ("end", "after", "message"),
    [
        (lambda b, d: b.w1.complete([complete(d)]), "completed", []),
        (lambda b, d: b.w1.fail([fail(d, max_retries=5)]), "cancelled", []),
        (lambda b, d: b.w1.fail([fail(d)]), "dead_letter", []),
        (lambda b, d: b.w1.release([release(d)]), "cancelled", []),
        (take_over, "running", ["2"]),
    ],
)
async def test_who_comes_second(bench: Bench, end: Ending, after: str, message: list[str]) -> None:
    """A request that comes after the attempt has ended finds what that has left."""
    delivery = await bench.start()
    await end(bench, delivery)
    if after in TERMINAL - {TaskState.CANCELLED}:
        with pytest.raises(StateConflictError, match=f"is {after}"):
            await stop(bench, delivery)
    else:
        assert await stop(bench, delivery) is (after == "cancelled")
    assert await bench.state(task_id_of(delivery)) == after
    told = (await bench.snapshot()).get("ctl:w2", [])
    assert [line.rpartition(" ")[2] for line in told] == message
