"""From the past to the present: each event once, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, EventHistory, Page, open_broker
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.events import Cursor, Position
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.hub import Hub
from taskqueue_server.listeners import Close, Frame, Subscriber
from taskqueue_server.selection import Selection

pytestmark = pytest.mark.anyio

PARTITIONS = 3


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep log lines from being rendered: a traceback with all its locals takes a second."""
    with capture_logs():
        yield


@pytest.fixture
async def parted(settings: Settings) -> AsyncIterator[Broker]:
    """Yield a broker with several partitions."""
    queue = settings.queue.model_copy(update={"partitions": PARTITIONS})
    broker = open_broker(settings.model_copy(update={"queue": queue}))
    await broker.prepare()
    yield broker
    await broker.close()


@pytest.fixture
async def hub(parted: Broker) -> AsyncIterator[Hub]:
    """Yield a hub whose listeners have small buffers."""
    hub = Hub(parted, lambda: 0, report_seconds=3_600, capacity=20)
    yield hub
    await hub.close()


def start() -> Cursor:
    """Return the place before all events."""
    return Cursor([Position()] * PARTITIONS)


async def submit(broker: Broker, calls: int, each: int = 5) -> list[str]:
    """Submit tasks in several calls; their ids."""
    ids = []
    for _ in range(calls):
        tasks = [NewTask(id=broker.new_task_id(), type="echo") for _ in range(each)]
        await broker.submit_many(tasks)
        ids += [task.id for task in tasks]
    return ids


async def take(subscriber: Subscriber, count: int) -> list[dict[str, Any]]:
    """Return the first frames, so many of them."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            for item in await subscriber.take():
                assert isinstance(item, Frame)
                found.append(json.loads(item.body))
    return found


def tasks_of(frames: list[dict[str, Any]]) -> list[str]:
    """Return the tasks of events that all have one."""
    return [frame["data"]["task_id"] for frame in frames]


def is_in_order(frames: list[dict[str, Any]], after: Cursor) -> bool:
    """Tell whether each event moves one partition by one number."""
    before = after.positions
    for frame in frames:
        here = Cursor.parse(frame["id"], PARTITIONS).positions
        steps = [now.number - then.number for now, then in zip(here, before, strict=True)]
        if sorted(steps) != [0] * (PARTITIONS - 1) + [1]:
            return False
        before = here
    return True


async def test_while_events_come(hub: Hub, parted: Broker) -> None:
    """Listeners that start anywhere, at any time, all have every event behind their place."""
    rng = random.Random(5)
    old = await submit(parted, 20)
    pages = await parted.history.read(start(), 1_000)
    producing = asyncio.create_task(submit(parted, 40))
    listeners, taking = [], []
    for _ in range(25):
        at = rng.randrange(100)
        after = Cursor.parse(pages.events[at][1], PARTITIONS)
        wanted = set(old) - {event.task_id for event, _ in pages.events[: at + 1]}
        listeners.append((after, wanted, await hub.join(since=after)))
        taking.append(asyncio.create_task(take(listeners[-1][2], len(wanted) + 200)))
        await asyncio.sleep(rng.random() / 50)
    new = await producing
    for (after, wanted, _), frames in zip(listeners, await asyncio.gather(*taking), strict=True):
        assert sorted(tasks_of(frames)) == sorted([*wanted, *new])
        assert is_in_order(frames, after)
    # All of them are in the present now.
    (last,) = await submit(parted, 1, 1)
    for _, _, listener in listeners:
        assert tasks_of(await take(listener, 1)) == [last]
        await hub.leave(listener)


async def test_no_hole_before_the_present(
    hub: Hub, parted: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others got while the last page was on its way is read before the listener joins."""
    ids = await submit(parted, 2)
    read, others = EventHistory.read, iter(range(3))

    async def read_slowly(self: EventHistory, *args: Any, **options: Any) -> Page:
        page = await read(self, *args, **options)
        for _ in others:
            ids.extend(await submit(parted, 1))
            end = time.monotonic() + 5
            while not hub._cursor.covers(await parted.history.now()):
                assert time.monotonic() < end
                await asyncio.sleep(0.005)
            break
        return page

    monkeypatch.setattr(EventHistory, "read", read_slowly)
    listener = await hub.join(since=start())
    frames = await take(listener, 25)
    assert sorted(tasks_of(frames)) == sorted(ids)
    assert is_in_order(frames, start())
    await hub.leave(listener)


async def test_one_task_of_one_partition(hub: Hub, parted: Broker) -> None:
    """Only the partition of the task is read, and waited for."""
    ids = await submit(parted, 10)
    task_id = ids[30]
    selection = Selection(task_id=task_id, partition=int(task_id[-2:], 16))
    listener = await hub.join(selection, since=start())
    assert tasks_of(await take(listener, 1)) == [task_id]
    await submit(parted, 3)
    await parted.cancel(task_id)
    assert [frame["type"] for frame in await take(listener, 1)] == ["task.cancelled"]
    await hub.leave(listener)


async def test_a_slow_listener_reads_the_past_without_a_loss(hub: Hub, parted: Broker) -> None:
    """Its buffer holds less than it has missed: what it has not taken is not read yet."""
    ids = await submit(parted, 40)
    listener = await hub.join(since=start())
    found: list[dict[str, Any]] = []
    while len(found) < len(ids):
        await asyncio.sleep(0.01)
        found += await take(listener, 1)
    assert sorted(tasks_of(found)) == sorted(ids)
    await hub.leave(listener)


async def test_the_broker_goes_away_meanwhile(
    hub: Hub, parted: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener stays and gets everything once the broker is back."""
    ids = await submit(parted, 10)
    read, calls = EventHistory.read, 0

    async def fail_twice(self: EventHistory, *args: Any, **options: Any) -> Page:
        nonlocal calls
        calls += 1
        if calls in (2, 3):
            raise BrokerUnavailableError("away")
        return await read(self, *args, **options)

    monkeypatch.setattr(EventHistory, "read", fail_twice)
    listener = await hub.join(since=start())
    assert sorted(tasks_of(await take(listener, len(ids)))) == sorted(ids)
    await hub.leave(listener)


async def test_a_fault_sends_the_listener_away(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not silently into a past without an end."""
    monkeypatch.setattr(EventHistory, "read", lambda *_, **__: 1 / 0)
    listener = await hub.join(since=start())
    async with asyncio.timeout(5):
        assert await listener.take() == [Close(1001)]
    await hub.leave(listener)


async def test_leaving_in_the_middle(hub: Hub, parted: Broker) -> None:
    """Nobody reads on for a listener that has gone."""
    await submit(parted, 40)
    for _ in range(10):
        listener = await hub.join(since=start())
        await listener.take()
        await hub.leave(listener)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "replay"]
    assert hub.count() == 0
