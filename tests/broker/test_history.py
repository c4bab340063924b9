"""Past events: page after page without a hole, and what is gone is said at its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bench import Bench, complete

from taskqueue_core.broker import Broker, open_redis
from taskqueue_core.events import GAP, Cursor, Event, Position
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio


def place(number: int, mark: str) -> Cursor:
    """Return a place in the only partition."""
    return Cursor([Position(number, mark)])


def shown(events: list[tuple[Event, str]]) -> list[Any]:
    """Return numbers, and what gaps say."""
    return [event.data if event.type == GAP else event.sequence for event, _ in events]


async def read_all(broker: Broker, after: Cursor | None, limit: int) -> list[tuple[Event, str]]:
    """Return everything behind a place, page by page."""
    found: list[tuple[Event, str]] = []
    while True:
        page = await broker.history.read(after, limit)
        assert len(page.events) <= limit
        found += page.events
        if page.is_last:
            return found
        assert page.events
        # As a client would: by the text alone.
        after = Cursor.parse(str(page.cursor), len(broker.partitions))


async def live(bench: Bench) -> None:
    """Five events: joined, submitted twice, started, completed."""
    delivery = await bench.start()
    await bench.submit()
    await bench.w1.complete([complete(delivery)])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 99, 100, 101, 1000])
async def test_pages_follow_each_other(bench: Bench, limit: int) -> None:
    """Every event once and in order, also where a page ends in the middle of a call's events."""
    await bench.broker.submit_many([bench.new() for _ in range(60)])
    for _ in range(150):
        await bench.submit()
    found = await read_all(bench.broker, None, limit)
    assert shown(found) == list(range(1, 211))
    assert [event.type for event, _ in found] == ["task.submitted"] * 210


async def test_every_id_is_a_place_to_come_back_to(bench: Bench) -> None:
    """What follows an event is everything behind it, whichever event it is."""
    await live(bench)
    await bench.broker.submit_many([bench.new() for _ in range(5)])
    found = await read_all(bench.broker, None, 100)
    for index, (event, name) in enumerate(found):
        assert event.sequence == index + 1
        assert await read_all(bench.broker, Cursor.parse(name, 1), 3) == found[index + 1 :]


async def test_ids_are_those_of_the_feed(bench: Bench) -> None:
    """Whoever followed events live can go on here."""
    await live(bench)
    feed = bench.broker.event_feed()
    cursor, names = Cursor([Position()]), []
    async for events in feed.follow({0: 0}):
        for event in events:
            cursor.advance(event)
            names.append(str(cursor))
        if len(names) == 5:
            break
    await feed.close()
    assert names == [name for _, name in await read_all(bench.broker, None, 100)]


async def test_an_empty_stream(bench: Bench) -> None:
    """Without events there are none, and what comes later is behind every place."""
    page = await bench.broker.history.read(None, 10)
    assert (page.events, page.is_last, str(page.cursor)) == ([], True, "0")
    assert str(await bench.broker.history.now()) == "0"
    await bench.submit()
    assert shown(await read_all(bench.broker, page.cursor, 10)) == [1]


async def test_now(bench: Bench) -> None:
    """Behind the place of now is what comes later."""
    await live(bench)
    now = await bench.broker.history.now()
    assert await read_all(bench.broker, now, 10) == []
    await bench.submit()
    assert shown(await read_all(bench.broker, now, 10)) == [6]


async def test_trimmed(bench: Bench) -> None:
    """Whoever comes too late hears how many are gone; whoever asks for the rest has no gap."""
    await live(bench)
    first = (await bench.broker.history.read(None, 1)).cursor
    await bench.redis.xtrim(bench.keys.events, minid="4-0", approximate=False)
    missed = {"missed": 2, "reason": "trimmed"}
    assert shown(await read_all(bench.broker, first, 1)) == [missed, 4, 5]
    assert shown(await read_all(bench.broker, None, 10)) == [4, 5]
    assert shown(await read_all(bench.broker, Cursor([Position()]), 10)) == [
        {"missed": 3, "reason": "trimmed"}, 4, 5,
    ]  # fmt: skip


async def test_trimmed_behind_the_place(bench: Bench) -> None:
    """What was trimmed behind a reader is none of its business."""
    await live(bench)
    third = (await bench.broker.history.read(None, 3)).cursor
    await bench.redis.xtrim(bench.keys.events, minid="4-0", approximate=False)
    assert shown(await read_all(bench.broker, third, 10)) == [4, 5]


async def test_trimmed_to_nothing(bench: Bench) -> None:
    """An empty stream whose numbers went on is a gap up to its end, once."""
    await live(bench)
    second = (await bench.broker.history.read(None, 2)).cursor
    await bench.redis.xtrim(bench.keys.events, maxlen=0, approximate=False)
    page = await bench.broker.history.read(second, 10)
    assert shown(page.events) == [{"missed": 3, "reason": "trimmed"}]
    await bench.submit()
    assert shown(await read_all(bench.broker, page.cursor, 10)) == [6]
    start = await bench.broker.history.read(None, 10)
    assert shown(start.events) == [6]


async def test_another_epoch(bench: Bench) -> None:
    """An emptied namespace has the number of an old place again, but not the place."""
    await live(bench)
    second = (await bench.broker.history.read(None, 2)).cursor
    await bench.clean()
    await bench.advance(1)
    await live(bench)
    restarted = {"missed": 2, "reason": "restarted"}
    found = await read_all(bench.broker, second, 2)
    assert shown(found) == [restarted, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [4, 5])
async def test_numbers_that_were_given_again(bench: Bench, number: int) -> None:
    """A promoted replica lacks the latest events; under their numbers are others by now."""
    await live(bench)
    page = await bench.broker.history.read(None, number)
    mark = page.cursor.positions[0].mark
    other = f"{int(mark, 16) ^ 1:010x}"
    restarted = {"missed": number, "reason": "restarted"}
    found = await read_all(bench.broker, place(number, other), 10)
    assert shown(found) == [restarted, 1, 2, 3, 4, 5]
    # Where the entry was not known, or is gone, the number has to do.
    assert shown(await read_all(bench.broker, place(number, mark[:6]), 10)) == [5][number - 4 :]
    await bench.redis.xtrim(bench.keys.events, minid="6-0", approximate=False)
    await bench.submit()
    assert shown(await read_all(bench.broker, place(5, other), 10)) == [6]


async def test_a_number_that_was_never_given(bench: Bench) -> None:
    """A broker that lost its latest events does not know a place that it gave out."""
    await live(bench)
    mark = (await bench.broker.history.now()).positions[0].mark
    restarted = {"missed": 9, "reason": "restarted"}
    assert shown(await read_all(bench.broker, place(9, mark), 10)) == [restarted, 1, 2, 3, 4, 5]


@pytest.fixture
async def halves(settings: Settings) -> AsyncIterator[Bench]:
    """Yield a bench over two partitions."""
    queue = settings.queue.model_copy(update={"partitions": 2})
    both = settings.model_copy(update={"queue": queue})
    broker = Broker(open_redis(both), both)
    await broker.prepare()
    yield Bench(broker, 0)
    await broker.close()


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_partitions_together(halves: Bench, limit: int) -> None:
    """Partitions are numbered apart and read together, in the order of time."""
    for _ in range(20):
        await halves.submit()
    await halves.broker.submit_many([halves.new() for _ in range(30)])
    found = await read_all(halves.broker, None, limit)
    for partition in (0, 1):
        numbers = [e.sequence for e, _ in found if e.partition == partition]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len(found) == 50
    times = [event.timestamp_ms for event, _ in found]
    assert times == sorted(times)
    for index in (0, 9, 25, 48):
        after = Cursor.parse(found[index][1], 2)
        assert await read_all(halves.broker, after, 11) == found[index + 1 :]


async def test_one_partition_of_several(halves: Bench) -> None:
    """Reading one partition leaves the place in the others where it was."""
    await halves.broker.submit_many([halves.new() for _ in range(30)])
    whole = await read_all(halves.broker, None, 100)
    page = await halves.broker.history.read(None, 100, partition=1)
    assert [event for event, _ in page.events] == [e for e, _ in whole if e.partition == 1]
    assert page.is_last
    rest = await read_all(halves.broker, page.cursor, 100)
    assert [event for event, _ in rest] == [e for e, _ in whole if e.partition == 0]


async def test_gaps_of_partitions_that_are_not_read_yet(halves: Bench) -> None:
    """Without a place no partition has a gap, also not on later pages."""
    await halves.broker.submit_many([halves.new() for _ in range(40)])
    for keys in halves.broker.partitions:
        await halves.redis.xtrim(keys.events, maxlen=0, approximate=False)
    await halves.broker.submit_many([halves.new() for _ in range(40)])
    assert all(event.type != GAP for event, _ in await read_all(halves.broker, None, 1))
