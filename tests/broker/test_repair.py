"""repair: what is out of place is put back, what is in its place is never touched."""

from __future__ import annotations

import pytest
from bench import LEASE_MS, Bench, changes, complete, fail, hold
from damages import (
    Damage,
    acknowledge,
    acknowledge_unowned,
    also_dead,
    also_done,
    also_scheduled,
    audit,
    both,
    drop_dead,
    drop_done,
    drop_entry,
    drop_group,
    drop_hash,
    drop_key,
    drop_queues,
    drop_schedule,
    drop_stream,
    entry_of_another,
    foreign_entry,
    group_at_the_end,
    group_at_the_start,
    hash_field,
    miscount,
    other_type,
    read_behind_the_back,
    repair,
    same_entry_elsewhere,
    second_entry,
    shortened_entry,
    stray_part,
    unknown_entry,
)

from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import OutcomeStatus
from taskqueue_core.states import TERMINAL, TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, STALE = OutcomeStatus.ACCEPTED, OutcomeStatus.STALE
LARGE = b'"' + b"x" * 80 + b'"'

WAITS = "task {} waits in its queue again"
RAN = "task {} was running without a lease: it waits in its queue again"
STOPPED = "task {} was running without a lease and asked to stop: it is cancelled"
UNASKED = "task {} does not run: it is no longer asked to stop"
LEASED = "task {} is leased to its worker again"
INDEXED = "task {} is in the index of its state again"
ELSEWHERE = "task {} is no longer in the index of another state"
REMAINS = "what was left of {}, which is no task, is deleted"
ENTRY = "was no task's place: the entry is deleted"
OWED = "was pending but deleted: it is not pending any more"
NO_TASK = REMAINS.format("0" * 32)
LOST = "the backlog was wrong by -1"


async def drain(bench: Bench) -> None:
    """Let another worker run what there is, also what ``w1`` has left, until all has ended."""
    other = bench.broker.session("w9", "i9")
    await bench.advance(60_000)
    for _ in range(2):  # the first beat after so long is no proof of life of the others
        await bench.join(other)
        await bench.advance(LEASE_MS // 3 + 1_000)
    await bench.join(other)
    streams = await bench.streams()
    for stream in streams:
        for row in await bench.redis.xpending_range(stream, "workers", "-", "+", 9):
            await bench.redis.xclaim(
                stream, "workers", "w1", 0, [row["message_id"]], idle=LEASE_MS, justid=True
            )
    taken = (await other.recover(9, streams=streams)).deliveries
    taken += (await bench.fetch(9, session=other)).deliveries
    assert await other.complete([complete(one) for one in taken]) == [ACCEPTED] * len(taken)
    assert (await bench.broker.inspection.queue_stats()).backlog == 0
    assert await audit(bench) == []


P, S, R = TaskState.PENDING, TaskState.SCHEDULED, TaskState.RUNNING
C, F, D = TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER
Y, X = TaskState.RETRYING, TaskState.CANCELLED
KINDS: list[tuple[TaskState, Damage, list[str]]] = [
    (P, drop_entry, [WAITS]),
    (P, drop_stream, [WAITS]),
    (P, drop_queues, ["queue default is listed again"]),
    (P, second_entry, [ENTRY]),
    (P, foreign_entry, [ENTRY]),
    (P, unknown_entry, [ENTRY]),
    (P, read_behind_the_back, [WAITS]),
    (P, group_at_the_end, [WAITS]),
    (P, also_scheduled, [ELSEWHERE]),
    (P, also_done, [ELSEWHERE]),
    (P, also_dead, [ELSEWHERE]),
    (P, hash_field("q", "mail"), ["queue mail is listed again", WAITS, ENTRY]),
    (P, hash_field("p", "3"), [WAITS, ENTRY]),
    (P, hash_field("m", "1-1"), [WAITS, ENTRY]),
    (P, hash_field("m", "nonsense"), [WAITS, ENTRY]),
    (P, hash_field("m", None), [WAITS, ENTRY]),
    (P, entry_of_another, [WAITS, ENTRY]),
    (P, shortened_entry, [WAITS, ENTRY]),
    (P, same_entry_elsewhere, [ENTRY]),
    (P, both(read_behind_the_back, group_at_the_start), [WAITS]),
    (P, hash_field("s", "r"), [RAN]),
    (P, hash_field("s", "s"), [INDEXED, ENTRY]),
    (P, drop_hash, [REMAINS, ENTRY, LOST]),
    (P, drop_key("stats"), ["the backlog was wrong by 1"]),
    (P, miscount, ["the backlog was wrong by -2"]),
    (P, drop_key("meta"), ["events are counted from 1 again"]),
    (P, hash_field("X", "1"), [UNASKED]),
    (P, stray_part("b"), [NO_TASK]),
    (P, stray_part("r"), [NO_TASK]),
    (P, stray_part("h"), [NO_TASK]),
    (S, drop_schedule, [INDEXED]),
    (S, also_dead, [ELSEWHERE]),
    (S, drop_hash, [REMAINS, LOST]),
    (R, drop_entry, [RAN, OWED]),
    (R, drop_stream, [RAN]),
    (R, drop_group, [LEASED]),
    (R, group_at_the_end, [LEASED]),
    (R, acknowledge, [LEASED]),
    (R, acknowledge_unowned, [RAN]),
    (R, hash_field("m", "1-1"), [RAN, ENTRY]),
    (R, drop_hash, [REMAINS, ENTRY, LOST]),
    (R, also_scheduled, [ELSEWHERE]),
    (R, both(hash_field("X", "1"), drop_entry), [STOPPED, OWED]),
    (R, both(hash_field("X", "1"), acknowledge), [LEASED]),
    (R, both(hash_field("X", "1"), acknowledge_unowned), [STOPPED]),
    (Y, hash_field("X", "1"), [UNASKED]),
    (Y, both(hash_field("X", "1"), drop_schedule), [UNASKED, INDEXED]),
    (Y, drop_schedule, [INDEXED]),
    (C, drop_done, [INDEXED]),
    (C, drop_hash, [REMAINS]),
    (C, second_entry, [ENTRY]),
    (X, drop_done, [INDEXED]),
    (F, also_scheduled, [ELSEWHERE]),
    (D, drop_dead, [INDEXED]),
    (D, drop_hash, [REMAINS]),
]


@pytest.mark.parametrize(
    ("state", "damage", "sentences"), KINDS, ids=[f"{n}-{kind[0]}" for n, kind in enumerate(KINDS)]
)
async def test_damage(bench: Bench, state: TaskState, damage: Damage, sentences: list[str]) -> None:
    """What the audit names is repaired, each thing once, and what is left of the work is done."""
    task_id, _ = await bench.make(state, payload=LARGE)
    digits = id_to_hex(task_id)
    await damage(bench, digits)
    assert await audit(bench) != []
    repairs = await repair(bench)
    assert len(repairs) == len(sentences)
    for sentence, expected in zip(repairs, sentences, strict=True):
        assert sentence.endswith(expected.format(digits))
    assert await audit(bench) == []
    assert await repair(bench) == []
    assert int((await bench.task(task_id)).get("a", "0")) >= 0
    await drain(bench)
    assert await bench.state(task_id) in {None, *TERMINAL}


LEFT: list[tuple[TaskState, Damage, str]] = [
    (P, hash_field("s", "?"), "has no valid state"),
    (P, hash_field("s", None), "has no valid state"),
    (P, hash_field("y", None), "has no type"),
    (P, hash_field("p", "7"), "has no valid priority"),
    (P, drop_key("b:{}"), "has lost its body"),
    (P, other_type, "WRONGTYPE"),
    (C, drop_key("r:{}"), "has lost its result or error"),
]


@pytest.mark.parametrize(("state", "damage", "sentence"), LEFT)
async def test_what_cannot_be_repaired_is_left(
    rough_bench: Bench, state: TaskState, damage: Damage, sentence: str
) -> None:
    """Nothing is invented and nothing unknown is deleted; the audit goes on naming it."""
    bench = rough_bench
    task_id, delivery = await bench.make(state if state is P else R, payload=LARGE)
    if state is C:
        await bench.w1.complete([complete(delivery, LARGE)])
    await damage(bench, id_to_hex(task_id))
    stream = bench.keys.stream("default", 1)
    before = await bench.redis.dump(stream), await bench.task(task_id)
    assert await repair(bench) == []
    assert (await bench.redis.dump(stream), await bench.task(task_id)) == before
    assert [problem for problem in await audit(bench) if sentence in problem]


async def test_a_damaged_hash_names_no_place(rough_bench: Bench) -> None:
    """A task whose type is lost is not put back anywhere, and nowhere counts as unfinished."""
    bench = rough_bench
    digits = id_to_hex(await bench.submit())
    await hash_field("y", None)(bench, digits)
    await drop_entry(bench, digits)
    assert await repair(bench) == [LOST]
    assert await repair(bench) == []
    assert f"task {digits} is pending but in: nowhere" in await audit(bench)


async def test_a_full_house_is_left_alone(bench: Bench) -> None:
    """Tasks in all states, in several queues, more than one step holds: nothing changes."""
    for state in TaskState:
        await bench.make(state, queue="mail", priority=3)
        await bench.make(state, payload=LARGE, owner="acme")
    held = [await bench.start("strange"), await bench.start("strange")]
    await bench.w1.hold([hold(delivery) for delivery in held])
    await bench.beat(types=["strange"])
    await bench.fetch(1)
    for _ in range(3):
        await bench.broker.submit_many([bench.new() for _ in range(100)])
    await bench.fetch(50)
    before = await bench.snapshot()
    assert await repair(bench) == []
    assert changes(before, await bench.snapshot()) == {}


@pytest.mark.parametrize("key", ["ev", "types", "wake:default", "workers", "w:w1", "ctl:w1"])
async def test_keys_that_come_back_by_themselves(bench: Bench, key: str) -> None:
    """Without these nothing is out of place, and the work goes on."""
    await bench.start()
    await bench.submit()
    await bench.redis.delete(bench.keys.prefix + key)
    assert await audit(bench) == []
    assert await repair(bench) == []
    await drain(bench)


async def test_parts_of_a_lost_task(bench: Bench) -> None:
    """With its hash a task has lost everything: entry, body, error, history and index members."""
    task_id, delivery = await bench.make(R, payload=LARGE)
    await bench.w1.fail([fail(delivery, LARGE, max_retries=1, delay_ms=1, history=b"{}")])
    await drop_hash(bench, delivery.digits)
    assert len(await audit(bench)) == 5
    assert await repair(bench) == [REMAINS.format(delivery.digits), LOST]
    assert not [key for key in await bench.snapshot() if delivery.digits in key]
    assert await bench.state(task_id) is None
