"""tally: dead letters counted by type, reason and error."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import pytest
from bench import CLOCK, Bench, fail

from taskqueue_core.broker import (
    Broker,
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterGroups,
    open_redis,
)
from taskqueue_core.broker import causes as causes_module
from taskqueue_core.broker import dead_letters as dead_letters_module
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio


async def bury(bench: Bench, task_type: str, *errors: bytes, reason: str = "") -> None:
    """Make a dead letter of each error."""
    for error in errors:
        delivery = await bench.start(task_type)
        await bench.w1.fail([fail(delivery, error, reason=reason)])


async def test_groups(bench: Bench) -> None:
    """The largest group first, each with its latest death."""
    first = bench.now
    await bury(bench, "mail", b"refused", b"refused", b"timeout")
    await bench.advance(5)
    await bury(bench, "mail", b"refused")
    await bury(bench, "http", b"refused", b"timeout", reason="non_retryable")
    await bury(bench, "mail", b"timeout")
    found = await bench.broker.dead_letters.groups()
    rows = [(g.type, g.reason, g.error, g.count, g.latest_at_ms) for g in found.groups]
    assert rows[:2] == [
        ("mail", "max_retries", "refused", 3, bench.now),
        ("mail", "max_retries", "timeout", 2, bench.now),
    ]
    assert {row[:4] for row in rows[2:]} == {
        ("http", "non_retryable", "refused", 1),
        ("http", "non_retryable", "timeout", 1),
    }
    assert (found.counted, first) == (7, bench.now - 5)


async def test_filter(bench: Bench) -> None:
    """Only what is wanted is in a group; all are counted as looked at."""
    await bury(bench, "mail", b"refused", b"timeout")
    await bury(bench, "http", b"refused")
    found = await bench.broker.dead_letters.groups(DeadLetterFilter(type="mail", error="ref"))
    assert found == DeadLetterGroups(
        [
            DeadLetterGroup(
                type="mail",
                reason="max_retries",
                error="refused",
                count=1,
                latest_at_ms=bench.now,
            )
        ],
        3,
    )


async def test_long_errors(bench: Bench) -> None:
    """Errors that differ far behind are of one group, cut at a whole character."""
    start = b"x" + "\u00e9".encode() * 200
    await bury(bench, "mail", start + b"1", start + b"2")
    [group] = (await bench.broker.dead_letters.groups()).groups
    assert (group.error, group.count) == ("x" + "\u00e9" * 127, 2)


async def test_only_the_newest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are looked at and no more, in steps; only the largest groups are told."""
    for number in range(6):
        await bury(bench, "mail", b"%d" % number)
        await bench.advance(1)
    await bury(bench, "mail", b"5")
    monkeypatch.setattr(dead_letters_module, "STEP", 2)
    monkeypatch.setattr(dead_letters_module, "COUNTED", 5)
    monkeypatch.setattr(dead_letters_module, "GROUPS", 2)
    found = await bench.broker.dead_letters.groups()
    assert ([group.error for group in found.groups], found.counted) == (["5", "4"], 5)
    found = await bench.broker.dead_letters.groups(DeadLetterFilter(error="4"))
    assert ([group.error for group in found.groups], found.counted) == (["4"], 5)
    assert await bench.broker.dead_letters.count() == 7


async def test_partitions_are_added_up(settings: Settings) -> None:
    """Each partition gives its newest, and equal groups are one."""
    queue = settings.queue.model_copy(update={"partitions": 2})
    parted = settings.model_copy(update={"queue": queue})
    broker = Broker(open_redis(parted), parted, clock=CLOCK)
    for keys in broker.partitions:
        await broker.redis.set(keys.prefix + "clock", 1_800_000_000_000)
    await broker.prepare()
    await broker.submit_many([Bench(broker, 0).new() for _ in range(20)])
    for keys in broker.partitions:
        session = broker.session("w1", "i1", keys.partition)
        await session.register(concurrency=1, version="1", handlers={})
        streams = [keys.stream("default", 1)]
        deliveries = (await session.fetch(100, streams=streams, request=1)).deliveries
        await session.fail([fail(delivery) for delivery in deliveries])
    [group] = (await broker.dead_letters.groups()).groups
    assert group.count == await broker.dead_letters.count() == 20
    page = await broker.dead_letters.page(limit=15)
    rest = await broker.dead_letters.page(limit=15, cursor=page.cursor)
    found = [letter.task.id for letter in page.letters + rest.letters]
    assert (len(page.letters), len(set(found)), rest.cursor) == (15, 20, None)
    assert await broker.redrive(DeadLetterFilter(type="echo")) == 20
    await broker.close()


async def test_pages(bench: Bench) -> None:
    """Newest first, each with the time of its death and the id of that death."""
    for error in (b"one", b"two", b"three"):
        await bury(bench, "mail", error)
        await bench.advance(10)
    page = await bench.broker.dead_letters.page(limit=2)
    assert [letter.task.error for letter in page.letters] == ["three", "two"]
    newest = page.letters[0]
    assert newest.added_at_ms == newest.task.completed_at_ms == bench.now - 10
    assert (newest.message_id, newest.task.reason) == (f"{bench.now - 10}-1", "max_retries")
    rest = await bench.broker.dead_letters.page(limit=2, cursor=page.cursor)
    assert ([letter.task.error for letter in rest.letters], rest.cursor) == (["one"], None)


async def test_what_was_counted_is_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only new deaths are read, also of tasks that died again; what has left is forgotten."""
    asked: list[int] = []
    call = Scripts.call

    async def record(self: Scripts, name: str, keys: Sequence[str], *rest: Any) -> Any:
        if name == "causes":
            asked.append(len(keys) - 1)
        return await call(self, name, keys, *rest)

    await bury(bench, "mail", b"one", b"one", b"x" * 300)
    monkeypatch.setattr(Scripts, "call", record)
    groups = bench.broker.dead_letters.groups
    assert [group.count for group in (await groups()).groups] == [2, 1]
    assert [(g.error, g.count) for g in (await groups()).groups] == [("one", 2), ("x" * 256, 1)]
    assert asked == [3]
    await bury(bench, "mail", b"two")
    assert {group.error for group in (await groups()).groups} == {"one", "x" * 256, "two"}
    assert asked == [3, 1]
    await bench.advance(1)
    assert await bench.broker.redrive(DeadLetterFilter(error="one")) == 2
    again = (await bench.fetch(2)).deliveries
    await bench.w1.fail([fail(delivery, b"three") for delivery in again])
    assert next((g.error, g.count) for g in (await groups()).groups) == ("three", 2)
    assert asked == [3, 1, 2]
    await bench.broker.clear()
    assert await groups() == DeadLetterGroups([], 0)


async def test_both_ways_of_counting_agree(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is what a count of everything finds, step by step, with each filter."""
    monkeypatch.setattr(causes_module, "_MEMBERS", 2)
    monkeypatch.setattr(causes_module, "STEP", 2)
    await bury(bench, "mail", b"an error", b"an error of %b" % (b"y" * 300), b"another error")
    await bury(bench, "http", b"an error", reason="non_retryable")
    delivery = await bench.start("http", queue="slow")
    await bench.w1.fail([fail(delivery, b"an error")])
    await bench.redis.zadd(bench.keys.dead_letters, {"0" * 32: bench.now})
    filters: list[dict[str, str]] = [{}, {"type": "mail"}, {"queue": "slow"}, {"queue": "default"}]
    for names in [*filters, {"reason": "non_retryable"}, {"type": "http", "queue": "slow"}]:
        remembered = await bench.broker.dead_letters.groups(DeadLetterFilter(**names))
        counted = await bench.broker.dead_letters.groups(DeadLetterFilter(error="error", **names))
        key = attrgetter("type", "reason", "error")
        assert sorted(remembered.groups, key=key) == sorted(counted.groups, key=key)
        assert remembered.counted == counted.counted == 6
        assert remembered.groups
    await bench.redis.zrem(bench.keys.dead_letters, "0" * 32)
