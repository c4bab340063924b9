"""audit: every kind of damage is reported, and nothing else is."""

from __future__ import annotations

import pytest
from bench import Bench, changes, task_id_of
from damages import (
    Damage,
    also_scheduled,
    drop_dead,
    drop_done,
    drop_entry,
    drop_group,
    drop_hash,
    drop_key,
    drop_queues,
    drop_schedule,
    drop_stream,
    foreign_entry,
    group_at_the_end,
    hash_field,
    other_type,
    read_behind_the_back,
    second_entry,
    unknown_entry,
)

from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

P, S, R = TaskState.PENDING, TaskState.SCHEDULED, TaskState.RUNNING
KINDS: list[tuple[TaskState, Damage, str]] = [
    (P, drop_entry, "is pending but in: nowhere"),
    (P, drop_stream, "is pending but in: nowhere"),
    (P, drop_queues, "is pending but in: nowhere"),
    (P, other_type, "WRONGTYPE"),
    (P, second_entry, "is pending but in: stream, stream"),
    (P, read_behind_the_back, "is pending but in: pending_list"),
    (P, also_scheduled, "is pending but in: schedule, stream"),
    (P, foreign_entry, "stream holds an entry without an id, which is no task"),
    (P, unknown_entry, f"stream holds {'0' * 32}, which is no task"),
    (P, hash_field("q", "mail"), "is not at"),
    (P, hash_field("p", "3"), "is not at"),
    (P, hash_field("m", "1-1"), "is not at"),
    (P, hash_field("m", None), "is not at"),
    (P, hash_field("s", None), "has no valid state"),
    (P, hash_field("s", "?"), "has no valid state"),
    (P, hash_field("s", "r"), "is running but in: stream"),
    (P, hash_field("y", None), "has no type"),
    (P, hash_field("p", "7"), "has no valid priority"),
    (P, hash_field("p", "high"), "has no valid priority"),
    (P, hash_field("b", None), "has lost its body"),
    (P, hash_field("V", "1"), "has lost its result or error"),
    (P, group_at_the_end, "is pending but its group has passed it"),
    (P, drop_key("meta"), "0 events are counted, but the last one is 1"),
    (P, hash_field("X", "1"), "is pending but asked to stop"),
    (TaskState.CANCELLED, hash_field("X", "1"), "is cancelled but asked to stop"),
    (S, drop_schedule, "is scheduled but in: nowhere"),
    (R, drop_entry, "is running but in: nowhere"),
    (R, drop_entry, "is pending but deleted"),
    (R, drop_group, "is running but in: stream"),
    (TaskState.RETRYING, drop_schedule, "is retrying but in: nowhere"),
    (TaskState.COMPLETED, drop_done, "is completed but in: nowhere"),
    (TaskState.CANCELLED, drop_done, "is cancelled but in: nowhere"),
    (TaskState.FAILED, also_scheduled, "is failed but in: schedule, done"),
    (TaskState.DEAD_LETTER, drop_dead, "is dead_letter but in: nowhere"),
    (TaskState.COMPLETED, drop_hash, "done holds"),
    (P, drop_hash, "stream holds"),
    (P, drop_hash, "backlog says 1, there are 0 unfinished tasks"),
]


@pytest.mark.parametrize(
    ("state", "damage", "sentence"), KINDS, ids=[f"{n}-{kind[2]}" for n, kind in enumerate(KINDS)]
)
async def test_damage(rough_bench: Bench, state: TaskState, damage: Damage, sentence: str) -> None:
    """Damage made by hand is named."""
    bench = rough_bench
    task_id, _ = await bench.make(state)
    assert await bench.broker.inspection.audit() == []
    await damage(bench, id_to_hex(task_id))
    before = await bench.snapshot() if damage not in (drop_group, other_type) else {}
    problems = await bench.broker.inspection.audit()
    assert [problem for problem in problems if sentence in problem]
    if before:
        assert changes(before, await bench.snapshot()) == {}


@pytest.mark.parametrize(
    ("kind", "name"), [("body", "body"), ("result", "result"), ("history", "history")]
)
async def test_parts_without_a_task(rough_bench: Bench, kind: str, name: str) -> None:
    """Bodies, results and histories of no task are named."""
    bench = rough_bench
    await bench.redis.set(getattr(bench.keys, kind)("0" * 32), "x")
    assert await bench.broker.inspection.audit() == [f"{name} of {'0' * 32}, which is no task"]


async def test_backlog(rough_bench: Bench) -> None:
    """A counter that says something else than the tasks do is named."""
    bench = rough_bench
    await bench.submit()
    await bench.redis.hincrby(bench.keys.stats, "backlog", 2)
    assert await bench.broker.inspection.audit() == ["backlog says 3, there are 1 unfinished tasks"]


async def test_a_full_house_is_clean(bench: Bench) -> None:
    """Tasks in all states, in several queues, more than one step holds: nothing to report."""
    for state in TaskState:
        await bench.make(state, queue="mail", priority=3)
        await bench.make(state, payload=b'"' + b"x" * 80 + b'"')
    for _ in range(6):
        await bench.broker.submit_many([bench.new() for _ in range(100)])
    assert await bench.broker.inspection.audit() == []


async def test_other_namespaces_do_not_matter(rough_bench: Bench) -> None:
    """Only the keys of this namespace are looked at."""
    bench = rough_bench
    delivery = await bench.start()
    other = bench.keys.prefix.replace("{", "{x") + "b:" + delivery.digits
    await bench.redis.set(other, "x", px=1_000)
    assert task_id_of(delivery)
    assert await bench.broker.inspection.audit() == []
