"""The event feed: every event once, in order; gaps are said aloud; lost connections come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from bench import Bench, complete, server_of

from taskqueue_core.broker import Broker, EventFeed, open_redis
from taskqueue_core.broker.clients import server_time_ms
from taskqueue_core.events import Event, mark_of
from taskqueue_core.settings import EventSettings, Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an empty read end soon, so that the numbers are checked soon."""
    monkeypatch.setattr("taskqueue_core.broker.feed.BLOCK_SECONDS", 0.05)


@pytest.fixture
async def feed(bench: Bench) -> AsyncIterator[EventFeed]:
    feed = bench.broker.event_feed()
    yield feed
    await feed.close()


async def take(events: AsyncIterator[list[Event]], count: int) -> list[Event]:
    """Return the next events, at least so many."""
    found: list[Event] = []
    with anyio.fail_after(10):
        while len(found) < count:
            found += await anext(events)
    return found


async def live(bench: Bench) -> None:
    """Five events: joined, submitted twice, started, completed."""
    delivery = await bench.start()
    await bench.submit()
    await bench.w1.complete([complete(delivery)])


LIVED = ["worker.joined", "task.submitted", "task.started", "task.submitted", "task.completed"]


async def test_every_event_in_order(bench: Bench, feed: EventFeed) -> None:
    """Events come as they were emitted, numbered without a hole, at the time of their call."""
    await live(bench)
    events = await take(feed.follow({0: 0}), 5)
    assert [event.type for event in events] == LIVED
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert {event.timestamp_ms for event in events} == {bench.now}
    assert [(e.type, e.data) for e in events] == (await bench.snapshot())["events"]


async def test_from_now_on(bench: Bench, feed: EventFeed) -> None:
    """Without a position a reader gets what comes after it began."""
    await live(bench)
    follower = feed.follow()
    async with anyio.create_task_group() as group:
        found: list[Event] = []

        async def read() -> None:
            found.extend(await take(follower, 1))

        group.start_soon(read)
        await blocked(bench)
        task_id = await bench.submit()
    assert [(e.type, e.data["task_id"]) for e in found] == [("task.submitted", task_id)]


@pytest.mark.parametrize("after", range(5))
async def test_resume(bench: Bench, feed: EventFeed, after: int) -> None:
    """A reader goes on behind its last event, also in the middle of one call's events."""
    await bench.broker.submit_many([bench.new() for _ in range(5)])
    events = await take(feed.follow({0: after}), 5 - after)
    assert [event.sequence for event in events] == list(range(after + 1, 6))


async def test_long_streams_in_steps(bench: Bench, feed: EventFeed) -> None:
    """More than one read holds comes without a hole."""
    for _ in range(4):
        await bench.broker.submit_many([bench.new() for _ in range(100)])
    for _ in range(150):
        await bench.submit()
    events = await take(feed.follow({0: 0}), 550)
    assert [event.sequence for event in events] == list(range(1, 551))


async def test_gap_after_trim(bench: Bench, feed: EventFeed) -> None:
    """Whoever comes too late hears how many events were missed, then gets the rest."""
    await live(bench)
    await bench.redis.xtrim(bench.keys.events, minid="4-0", approximate=False)
    events = await take(feed.follow({0: 1}), 3)
    assert [(e.type, e.sequence) for e in events] == [
        ("events.gap", 3),
        ("task.submitted", 4),
        ("task.completed", 5),
    ]
    assert events[0].data == {"missed": 2, "reason": "trimmed"}


async def test_no_gap_at_the_position(bench: Bench, feed: EventFeed) -> None:
    """What was trimmed behind a reader's position is no gap."""
    await live(bench)
    await bench.redis.xtrim(bench.keys.events, minid="4-0", approximate=False)
    events = await take(feed.follow({0: 3}), 2)
    assert [e.sequence for e in events] == [4, 5]


async def test_the_stream_is_capped(settings: Settings, bench: Bench) -> None:
    """The stream holds about as many events as it may, however many a call emits."""
    small = settings.model_copy(update={"events": EventSettings(max_length=50)})
    broker = Broker(open_redis(small), small)
    for _ in range(10):
        await broker.submit_many([bench.new() for _ in range(100)])
    assert 50 <= len(await bench.events()) <= 200
    for _ in range(400):
        await broker.submit(bench.new())
    assert 50 <= len(await bench.events()) <= 250
    await broker.close()


@pytest.mark.parametrize("calls", [1, 2])
async def test_gap_after_the_namespace_was_emptied(
    bench: Bench, feed: EventFeed, calls: int
) -> None:
    """Numbers that begin again are a gap, whether they are behind the reader or beyond it."""
    await live(bench)
    follower = feed.follow({0: 0})
    assert len(await take(follower, 5)) == 5
    await bench.clean()
    await bench.advance(1)
    tasks = [bench.new() for _ in range(3)]
    for start in range(calls):
        await bench.broker.submit_many(tasks if start == 0 else [bench.new() for _ in range(3)])
    gap, *events = await take(follower, 1 + 3 * calls)
    assert (gap.type, gap.sequence, gap.data) == (
        "events.gap",
        0,
        {"missed": 5, "reason": "restarted"},
    )
    assert [event.sequence for event in events] == list(range(1, 1 + 3 * calls))
    assert [event.data["task_id"] for event in events[:3]] == [task.id for task in tasks]


async def test_several_partitions(settings: Settings) -> None:
    """Partitions are numbered apart and followed together."""
    queue = settings.queue.model_copy(update={"partitions": 2})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    bench, feed = Bench(broker, 0), broker.event_feed()
    await broker.prepare()
    await broker.submit_many([bench.new() for _ in range(40)])
    events = await take(feed.follow({0: 0, 1: 0}), 40)
    for partition in (0, 1):
        sequences = [e.sequence for e in events if e.partition == partition]
        assert sequences == list(range(1, len(sequences) + 1))
    await feed.close()
    await broker.close()


async def blocked(bench: Bench) -> int:
    """Wait until the feed's connection waits in XREAD, and return its id."""
    with anyio.fail_after(10):
        while True:
            for client in await bench.redis.client_list(
                **server_of(bench.redis, bench.keys.events)
            ):
                if client["cmd"] == "xread" and "b" in client["flags"]:
                    return int(client["id"])
            await anyio.lowlevel.checkpoint()


async def cut(bench: Bench, client: int) -> None:
    """End the connection of a client, by its id there."""
    assert (
        await bench.redis.execute_command(
            "CLIENT KILL", "ID", client, **server_of(bench.redis, bench.keys.events)
        )
        == 1
    )


async def test_reconnects(bench: Bench, feed: EventFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was cut while it waited is made again, and nothing is missed."""
    monkeypatch.setattr("taskqueue_core.broker.feed.BLOCK_SECONDS", 2.0)
    await bench.submit()
    follower = feed.follow({0: 1})
    found: list[Event] = []

    async def read() -> None:
        found.extend(await take(follower, 2))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for _ in range(2):
            await cut(bench, await blocked(bench))
            await bench.submit()
    assert [event.sequence for event in found] == [2, 3]


async def test_lost_events_after_a_cut(
    bench: Bench, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that comes back with fewer events than the reader has seen is a gap at once.

    Not only when the next read has ended in vain: by then new events may have taken the numbers.
    """
    monkeypatch.setattr("taskqueue_core.broker.feed.BLOCK_SECONDS", 4.5)
    await live(bench)
    follower = feed.follow({0: 5})
    found: list[Event] = []

    async def read() -> None:
        found.extend(await take(follower, 1))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        client = await blocked(bench)
        await bench.redis.hset(bench.keys.meta, "events", 3)
        await bench.redis.xdel(bench.keys.events, "4-0", "5-0")
        with anyio.fail_after(3):
            await cut(bench, client)
            while not found:
                await anyio.lowlevel.checkpoint()
    assert (found[0].type, found[0].data) == ("events.gap", {"missed": 5, "reason": "restarted"})


async def test_numbers_go_on_when_their_count_is_deleted(bench: Bench) -> None:
    """Without the key that counts events, tasks are still accepted and the stream goes on."""
    await live(bench)
    await bench.redis.delete(bench.keys.meta)
    await bench.submit()
    newest = await bench.redis.xrevrange(bench.keys.events, count=1)
    counted = await bench.redis.hget(bench.keys.meta, "events")
    assert (newest[0][0], counted) == (b"6-0", b"6")


async def test_a_gap_is_told_though_the_broker_goes_away_meanwhile(
    bench: Bench, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found out is not forgotten before it could be said."""
    calls = 0

    async def fail_once(redis: object) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        return await server_time_ms(bench.redis)

    monkeypatch.setattr("taskqueue_core.broker.feed.server_time_ms", fail_once)
    await live(bench)
    follower = feed.follow({0: 0})
    await take(follower, 5)
    await bench.clean()
    await bench.advance(1)
    await bench.submit()
    gap, event = await take(follower, 2)
    assert gap.data == {"missed": 5, "reason": "restarted"}
    assert (event.sequence, calls) == (1, 2)


async def test_events_come_together(bench: Bench, feed: EventFeed) -> None:
    """Many calls in a row are few reads; the first event does not wait for others."""
    await bench.submit()
    follower = feed.follow({0: 0})
    assert len(await anext(follower)) == 1
    for _ in range(50):
        await bench.submit()
    reads = 0
    events: list[Event] = []
    while len(events) < 50:
        events += await anext(follower)
        reads += 1
    assert [event.sequence for event in events] == list(range(2, 52))
    assert reads < 10


async def test_marks_name_the_history(bench: Bench, feed: EventFeed) -> None:
    """Events of one call share a mark; another epoch has another one."""
    await bench.broker.submit_many([bench.new() for _ in range(3)])
    await bench.submit()
    first, _, third, fourth = await take(feed.follow({0: 0}), 4)
    assert first.mark == third.mark != fourth.mark
    assert first.mark.startswith(mark_of(bench.now))
    assert fourth.mark.startswith(mark_of(bench.now))
