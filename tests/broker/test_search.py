"""search: tasks by what they are, page by page, each of bounded cost."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from bench import CLOCK, Bench, fail, task_id_of

from taskqueue_core.broker import Broker, TaskQuery, open_redis
from taskqueue_core.broker import search as search_module
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import Priority
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

EVERYTHING = TaskQuery()


async def pages(broker: Broker, query: TaskQuery, limit: int) -> list[list[str]]:
    """Return the ids of all pages."""
    found, cursor = [], None
    while True:
        page = await broker.search.page(query, limit=limit, cursor=cursor)
        assert len(page.found) <= limit
        found.append([one.task.id for one in page.found])
        cursor = page.cursor
        if cursor is None:
            return found


async def ids(broker: Broker, query: TaskQuery, limit: int = 3) -> list[str]:
    """Return the ids of everything that fits, in the order of the pages."""
    return [task_id for page in await pages(broker, query, limit) for task_id in page]


async def test_order_of_places(bench: Bench) -> None:
    """Running, waiting, soonest due, latest dead, latest ended; each once, at any page size."""
    order = ["completed", "cancelled", "failed", "dead_letter", "retrying", "scheduled"]
    made: dict[str, list[str]] = {}
    for state in [*order, "running", "pending"]:
        made[state] = []
        for _ in range(2):
            await bench.advance(1)
            made[state].append((await bench.make(TaskState(state)))[0])
    down = {state: list(reversed(found)) for state, found in made.items()}
    # Both are due after a minute: the retrying ones were made first.
    expected = [*made["running"], *made["pending"], *made["retrying"], *made["scheduled"]]
    expected += [*down["dead_letter"], *down["failed"], *down["cancelled"], *down["completed"]]
    for limit in (1, 2, 3, 5, 200):
        assert await ids(bench.broker, EVERYTHING, limit) == expected
    for state, its in made.items():
        only = TaskQuery(states=(TaskState(state),))
        assert sorted(await ids(bench.broker, only)) == sorted(its)


async def test_streams_by_priority_and_queue(bench: Bench) -> None:
    """The most urgent first, then by the name of the queue, then by the wait."""
    places = [(priority, queue) for priority in (0, 3, 1, 2) for queue in ("mail", "default")]
    made = {
        place: [await bench.submit(priority=Priority(place[0]), queue=place[1]) for _ in range(2)]
        for place in places
    }
    ordered = sorted(places, key=lambda place: (-place[0], place[1]))
    assert await ids(bench.broker, EVERYTHING) == [i for place in ordered for i in made[place]]
    await bench.join()
    started = [task_id_of(d) for d in (await bench.fetch(5)).deliveries]
    running = await ids(bench.broker, TaskQuery(states=(TaskState.RUNNING,)), 2)
    assert sorted(running) == sorted(started)
    waiting = await ids(bench.broker, TaskQuery(states=(TaskState.PENDING,)), 2)
    assert len(waiting) == 11
    assert not set(waiting) & set(started)


@pytest.mark.parametrize(
    "query",
    [
        TaskQuery(type="special"),
        TaskQuery(queue="special"),
        TaskQuery(priority=Priority.HIGH),
        TaskQuery(metadata=(("customer", "17"),)),
    ],
)
async def test_filters(bench: Bench, query: TaskQuery) -> None:
    """Each filter finds its tasks in every state, and no other."""
    wanted: dict[str, Any] = {"queue": query.queue} if query.queue else {}
    if query.priority is not None:
        wanted["priority"] = query.priority
    if query.metadata:
        wanted["metadata"] = b'{"a":"b","customer":"17"}'
    made = set()
    for state in TaskState:
        if query.type:
            wanted["task_type"] = query.type
        made.add((await bench.make(state, **wanted))[0])
        await bench.make(state, metadata=b'{"customer":"1"}', task_type="other", queue="other")
    found = await ids(bench.broker, query)
    assert (set(found), len(found)) == (made, 8)


async def test_metadata_of_large_bodies(bench: Bench) -> None:
    """Metadata is found wherever the body is kept; its names and values must be equal."""
    large = b'{"x":"%b"}' % (b"y" * 100)
    task_id = await bench.submit(payload=large, metadata=b'{"k":"a=b","other":"c"}')
    for pair, count in ((("k", "a=b"), 1), (("k", "a"), 0), (("K", "a=b"), 0), (("x", "y"), 0)):
        assert await ids(bench.broker, TaskQuery(metadata=(pair,))) == [task_id] * count
    both = TaskQuery(metadata=(("k", "a=b"), ("other", "d")))
    assert await ids(bench.broker, both) == []


async def test_metadata_behind_escapes_and_in_what_is_large(bench: Bench) -> None:
    """Texts can be written in many ways; a body that is large, or has an escape, is read itself."""
    made = [
        await bench.submit(metadata=b'{"na\\u006de":"\\u00e9"}'),
        await bench.submit(metadata='{ "name" :\t"\u00e9" }'.encode()),
        await bench.submit(
            payload=b'{"x":"%b"}' % (b"y" * 70_000), metadata='{"name":"\u00e9"}'.encode()
        ),
        await bench.submit(metadata=b'{"quote\\"d":"a/b"}'),
    ]
    # Both texts are there, but not as a name and its value.
    await bench.submit(payload='{"name":"\u00e9"}'.encode(), metadata=b'{"name":"e"}')
    await bench.submit(payload=b'{"x":"%b"}' % (b"y" * 70_000), metadata=b'{"name":"e"}')
    assert await ids(bench.broker, TaskQuery(metadata=(("name", "\u00e9"),))) == made[:3]
    assert await ids(bench.broker, TaskQuery(metadata=(('quote"d', "a/b"),))) == made[3:]


async def test_creation(bench: Bench) -> None:
    """From is included, before is not, in each place."""
    made = []
    for state in (TaskState.SCHEDULED, TaskState.CANCELLED, TaskState.SCHEDULED):
        await bench.advance(1000)
        task_id, _ = await bench.make(state, scheduled_at_ms=bench.now + 60_000)
        made.append((task_id, (await bench.broker.inspection.get(task_id)).created_at_ms))
    (first, at), (second, _), (third, last) = made
    assert await ids(bench.broker, TaskQuery(created_from_ms=at)) == [first, third, second]
    assert await ids(bench.broker, TaskQuery(created_from_ms=at + 1)) == [third, second]
    assert await ids(bench.broker, TaskQuery(created_before_ms=last)) == [first, second]
    waiting = await bench.submit()
    created = (await bench.broker.inspection.get(waiting)).created_at_ms
    pending = (TaskState.PENDING,)
    for start, found in ((created, [waiting]), (created + 1, [])):
        query = TaskQuery(states=pending, created_from_ms=start)
        assert await ids(bench.broker, query) == found


async def test_reason_and_error(bench: Bench) -> None:
    """Any part of the error, as plain text, wherever it is kept; the reason as a whole."""
    made = {}
    errors = {"small": b"timeout 100%", "large": b"timeout %b" % (b"x" * 70), "refused": b"refused"}
    for name, error in errors.items():
        delivery = await bench.start()
        reason = "non_retryable" if name == "refused" else ""
        await bench.w1.fail([fail(delivery, error, reason=reason)])
        made[name] = task_id_of(delivery)
        await bench.advance(1)
    for query, names in {
        TaskQuery(error="timeout"): ["large", "small"],
        TaskQuery(error="0%"): ["small"],
        TaskQuery(error="xx"): ["large"],
        TaskQuery(error="t.m"): [],
        TaskQuery(reason="non_retryable"): ["refused"],
        TaskQuery(reason="non"): [],
    }.items():
        assert await ids(bench.broker, query) == [made[name] for name in names]


async def test_many_of_one_time(bench: Bench) -> None:
    """Members of one score are gone through once, also when the one at the cursor has left."""
    tasks = [bench.new(scheduled_at_ms=bench.now + 60_000) for _ in range(150)]
    await bench.broker.submit_many(tasks)
    expected = sorted(task.id for task in tasks)
    assert await ids(bench.broker, EVERYTHING, 7) == expected
    page = await bench.broker.search.page(EVERYTHING, limit=7)
    await bench.broker.cancel(page.found[-1].task.id)
    scheduled = TaskQuery(states=(TaskState.SCHEDULED,))
    first = await bench.broker.search.page(scheduled, limit=6)
    await bench.broker.cancel(first.found[-1].task.id)
    second = await bench.broker.search.page(scheduled, limit=200, cursor=first.cursor)
    assert [one.task.id for one in second.found] == expected[7:]
    dead = await bench.redis.zrange(bench.keys.done, 0, -1)
    assert len(dead) == 2


async def test_pages_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at so many tasks at most, in two round trips; it may be empty, yet not last."""
    calls: list[str] = []
    call = Scripts.call

    async def record(self: Scripts, name: str, *rest: Any) -> Any:
        calls.append(name)
        return await call(self, name, *rest)

    await bench.broker.submit_many([bench.new("other") for _ in range(60)])
    wanted = await bench.submit("wanted")
    monkeypatch.setattr(search_module, "CANDIDATES", 25)
    monkeypatch.setattr(Scripts, "call", record)
    assert await pages(bench.broker, TaskQuery(type="wanted"), 5) == [[], [], [wanted]]
    assert calls == ["search", "search", "search", "read"]
    keys, arguments = [bench.keys.meta], [10_000, "2", "", "", "", *[""] * 8]
    answer = await call(bench.broker.scripts, "search", keys, [10_000, 10_000, *arguments])
    assert len(answer[2]) == 6 * 61
    await bench.broker.submit_many([bench.new() for _ in range(500)])
    answer = await call(bench.broker.scripts, "search", keys, [10_000, 10_000, *arguments])
    assert len(answer[2]) == 6 * 100
    answer = await call(bench.broker.scripts, "search", keys, [10_000, 3, *arguments])
    assert len(answer[2]) == 6 * 3


async def test_running_tasks_are_not_in_the_way_of_waiting_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the same stream, before them; a page of waiting tasks begins behind them."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(60)])
    assert len((await bench.fetch(60)).deliveries) == 60
    waiting = await bench.submit()
    monkeypatch.setattr(search_module, "CANDIDATES", 25)
    query = TaskQuery(states=(TaskState.PENDING,))
    assert await pages(bench.broker, query, 5) == [[waiting]]


async def test_large_bodies_make_short_pages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page stops before it reads too much, but not before its first task."""
    monkeypatch.setattr(search_module, "PAGE_BYTES", 1000)
    sizes = (2000, 400, 400, 400, 900)
    made = [await bench.submit(payload=b'{"x":"%b"}' % (b"y" * size)) for size in sizes]
    first, *rest = made
    assert await pages(bench.broker, EVERYTHING, 50) == [[first], rest[:2], rest[2:3], rest[3:]]


async def test_what_does_not_belong_is_passed_over(rough_bench: Bench) -> None:
    """Entries and members of tasks that are gone, or elsewhere, are no tasks of that place."""
    bench = rough_bench
    kept = await bench.submit()
    for key in (bench.keys.schedule, bench.keys.done, bench.keys.dead_letters):
        await bench.redis.zadd(key, {id_to_hex(kept): 5, "0" * 32: 6})
    stream = bench.keys.stream("default", 1)
    await bench.redis.xadd(stream, {"i": "0" * 32})
    await bench.redis.xadd(stream, {"i": id_to_hex(kept)})
    await bench.redis.xgroup_destroy(bench.keys.stream("default", 2), "workers")
    assert await ids(bench.broker, EVERYTHING, 1) == [kept]
    assert await bench.broker.dead_letters.count() == 0


@pytest.fixture
async def parted(settings: Settings) -> AsyncIterator[Bench]:
    """Yield a bench over the first of three partitions."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}), clock=CLOCK)
    await broker.prepare()
    for keys in broker.partitions:
        await broker.redis.set(keys.prefix + "clock", 1_800_000_000_000)
    yield Bench(broker, 1_800_000_000_000)
    for keys in broker.partitions:
        await broker.redis.delete(keys.prefix + "clock")
    assert await broker.inspection.audit() == []
    await broker.close()


async def test_partitions_are_merged(parted: Bench) -> None:
    """Tasks of all partitions come in one order, each once, at any page size."""
    broker = parted.broker
    tasks = []
    for number in range(60):
        due = parted.now + 10 * (number // 3)
        tasks.append(parted.new(scheduled_at_ms=due + 1) if number % 2 else parted.new())
    await broker.submit_many(tasks)
    assert len({task.id[-2:] for task in tasks}) == 3
    found = await ids(broker, EVERYTHING, 1)
    for limit in (2, 7, 200):
        assert await ids(broker, EVERYTHING, limit) == found
    assert sorted(found) == sorted(task.id for task in tasks)
    due = {task.id: task.scheduled_at_ms for task in tasks if task.scheduled_at_ms}
    assert [due[task_id] for task_id in found[30:]] == sorted(due.values())


async def test_entries_of_one_id_in_several_partitions(
    parted: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal entry ids in several partitions are told apart: none is skipped, none comes twice."""
    for keys in parted.broker.partitions:
        await parted.redis.xgroup_create(keys.stream("mail", 1), "workers", "0", mkstream=True)
        await parted.redis.zadd(keys.queues, {"mail": parted.now})
        await parted.redis.hincrby(keys.stats, "backlog", 3)
        for number in range(3):
            digits = f"{number:030x}{keys.partition:02x}"
            entry = f"1800000000000-{number}"
            await parted.redis.xadd(keys.stream("mail", 1), {"i": digits}, id=entry)
            task = {"s": "p", "y": "echo", "m": entry, "q": "mail", "b": "[{}]"}
            await parted.redis.hset(keys.task(digits), mapping=task)
    for candidates in (500, 9, 1):
        monkeypatch.setattr(search_module, "CANDIDATES", candidates)
        monkeypatch.setattr(search_module, "_PER_PARTITION", 1)
        for limit in (1, 2, 4):
            found = await ids(parted.broker, EVERYTHING, limit)
            assert len(found) == len(set(found)) == 9


def packed(*parts: Any) -> str:
    """Return a cursor made by hand."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


async def test_cursors_are_checked(bench: Bench) -> None:
    """What is no cursor, or one of another query, is refused before anything is asked."""
    await bench.broker.submit_many([bench.new() for _ in range(3)])
    cursor = (await bench.broker.search.page(EVERYTHING, limit=1)).cursor
    assert cursor is not None
    mark = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=="))[0]
    wrong = [
        *("", "nonsense", "\u00fc", cursor[:-3], "e30", packed(mark, 5), packed(mark, ["2"])),
        packed(mark, ["9", "1", "default", "5-1", 0]),
        packed(mark, ["2", "4", "default", "5-1", 0]),
        packed(mark, ["2", "1", "a:b", "5-1", 0]),
        packed(mark, ["2", "1", "default", "x", 0]),
        packed(mark, ["2", "1", "default", "0-0", 0]),
        packed(mark, ["2", "1", "default", f"5-{2**64}", 0]),
        packed(mark, ["3", "inf", "", "0" * 32, 0]),
        packed(mark, ["3", "5", "q", "0" * 32, 0]),
        packed(mark, ["3", "5", "", "5-1", 0]),
    ]
    for text in wrong:
        with pytest.raises(InvalidTaskError, match="cursor: is no next_cursor"):
            await bench.broker.search.page(EVERYTHING, limit=1, cursor=text)
    with pytest.raises(InvalidTaskError, match="other filters") as caught:
        await bench.broker.search.page(TaskQuery(type="a"), limit=1, cursor=cursor)
    assert caught.value.field == "cursor"
    good = packed(mark, ["3", "5", "", "0" * 32, 77])
    assert (await bench.broker.search.page(EVERYTHING, limit=1, cursor=good)).found == []


async def test_tasks_that_move_are_shown_as_they_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and reading a task may move: it must still have the state that is wanted."""
    task_id = await bench.submit()
    read = bench.broker.inspection.read

    async def cancel_first(*arguments: Any) -> Any:
        await bench.broker.cancel(task_id)
        return await read(*arguments)

    monkeypatch.setattr(bench.broker.inspection, "read", cancel_first)
    query = TaskQuery(states=(TaskState.PENDING,))
    assert (await bench.broker.search.page(query, limit=5)).found == []
