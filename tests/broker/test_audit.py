"""audit: every kind of damage is reported, and nothing else is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from bench import Bench, changes, task_id_of

from taskqueue_core.keys import GROUP, id_to_hex
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

Damage = Callable[[Bench, str], Awaitable[object]]


async def drop_entry(bench: Bench, digits: str) -> None:
    entry = await bench.redis.hget(bench.keys.task(digits), "m")
    await bench.redis.xdel(bench.keys.stream("default", 1), entry)


async def drop_stream(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.stream("default", 1))


async def drop_group(bench: Bench, digits: str) -> None:
    await bench.redis.xgroup_destroy(bench.keys.stream("default", 1), GROUP)


async def second_entry(bench: Bench, digits: str) -> None:
    await bench.redis.xadd(bench.keys.stream("default", 1), {"i": digits})


async def foreign_entry(bench: Bench, digits: str) -> None:
    await bench.redis.xadd(bench.keys.stream("default", 1), {"j": "k"})


async def unknown_entry(bench: Bench, digits: str) -> None:
    await bench.redis.xadd(bench.keys.stream("default", 1), {"i": "0" * 32})


async def read_behind_the_back(bench: Bench, digits: str) -> None:
    await bench.redis.xreadgroup(GROUP, "thief", {bench.keys.stream("default", 1): ">"})


async def drop_schedule(bench: Bench, digits: str) -> None:
    await bench.redis.zrem(bench.keys.schedule, digits)


async def also_scheduled(bench: Bench, digits: str) -> None:
    await bench.redis.zadd(bench.keys.schedule, {digits: 1})


async def drop_done(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.done)


async def drop_dead(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.dead_letters)


async def drop_hash(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.task(digits))


async def drop_queues(bench: Bench, digits: str) -> None:
    await bench.redis.delete(bench.keys.queues)


async def other_type(bench: Bench, digits: str) -> None:
    await drop_stream(bench, digits)
    await bench.redis.set(bench.keys.stream("default", 1), "nonsense")


def hash_field(name: str, value: str | None) -> Damage:
    async def damage(bench: Bench, digits: str) -> None:
        key = bench.keys.task(digits)
        await (bench.redis.hdel(key, name) if value is None else bench.redis.hset(key, name, value))

    return damage


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
