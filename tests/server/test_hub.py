"""The hub: one reader for all listeners, of whom none can hurt another."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.models import NewTask
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.hub import Hub
from taskqueue_server.listeners import Close, Frame, Subscriber
from taskqueue_server.messages import Message, Scope

pytestmark = pytest.mark.anyio

_SCOPE: Scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}
_READING = {"events", "reports"}


def new(broker: Broker) -> NewTask:
    """Return a task to submit."""
    return NewTask(id=broker.new_task_id(), type="echo")


def number_of(frame: dict[str, Any]) -> int:
    """Return the number of an event of the only partition."""
    return int(frame["id"].rpartition("-")[2])


async def take(subscriber: Subscriber, count: int) -> list[dict[str, Any]]:
    """Return so many frames of a listener that keeps up."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            items = await subscriber.take()
            found += [json.loads(item.body) for item in items if isinstance(item, Frame)]
    return found


def reading() -> set[str]:
    """Return the names of the hub's tasks that are at work."""
    return _READING & {task.get_name() for task in asyncio.all_tasks()}


async def quiet() -> None:
    """Return once no hub reads any more."""
    end = time.monotonic() + 5
    while reading():
        assert time.monotonic() < end, "the stream is still read"
        await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep log lines from being rendered: a traceback with all its locals takes a second."""
    with capture_logs():
        yield


@pytest.fixture
async def hub(broker: Broker) -> AsyncIterator[Hub]:
    """Yield a hub that reports nothing by itself and stops reading at once."""
    hub = Hub(broker, lambda: 0, report_seconds=3_600, linger_seconds=0)
    yield hub
    await hub.close()
    assert reading() == set()


class StalledClient:
    """A client whose network takes no more than ``limit`` frames."""

    def __init__(self, app: Application, limit: int) -> None:
        self.received: list[str] = []
        self.flows = asyncio.Event()
        self.is_connected = asyncio.Event()
        self._app = app
        self._limit = limit
        self._changed = asyncio.Condition()
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})

    async def run(self) -> None:
        """Be served until ``leave``."""
        await self._app(dict(_SCOPE), self._incoming.get, self._send)

    def leave(self) -> None:
        """Go away."""
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})

    async def _send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self.is_connected.set()
            return
        if len(self.received) >= self._limit:
            await self.flows.wait()
        async with self._changed:
            self.received.append(message.get("text", message["type"]))
            self._changed.notify_all()

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Return the first frames once there are ``count`` of them."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.received) >= count)
        return [json.loads(text) for text in self.received[:count]]


async def test_slow_reader_hurts_nobody_else(broker: Broker) -> None:
    """The fast client gets everything at once, the slow one an exact count of its loss."""
    app = create_app(broker.settings, broker=broker, capacity=5, report_seconds=3600)
    slow, fast = StalledClient(app, 2), StalledClient(app, 10**6)
    running = [asyncio.create_task(client.run()) for client in (slow, fast)]
    await asyncio.gather(slow.is_connected.wait(), fast.is_connected.wait())
    for _ in range(40):
        await broker.submit(new(broker))
        await fast.wait_for(len(fast.received) + 1)
    slow.flows.set()
    await slow.wait_for(3)
    await broker.submit(new(broker))
    everything = [number_of(frame) for frame in await fast.wait_for(41)]
    assert everything == list(range(everything[0], everything[0] + 41))
    received = await slow.wait_for(len(slow.received))
    while received[-1]["type"] == "events.gap" or number_of(received[-1]) != everything[-1]:
        received = await slow.wait_for(len(received) + 1)
    missed = [frame["data"]["missed"] for frame in received if frame["type"] == "events.gap"]
    assert len(received) - len(missed) + sum(missed) == 41
    assert len(missed) == 1
    for client in (slow, fast):
        client.leave()
    await asyncio.gather(*running)
    await app.hub.close()


async def test_a_burst_is_no_loss_for_those_who_keep_up(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read may bring more events than a buffer holds: they are handed out in parts."""
    monkeypatch.setattr("taskqueue_core.broker.feed.PACE_SECONDS", 0.3)
    hub = Hub(broker, lambda: 0, report_seconds=3_600, capacity=300)
    listeners = [await hub.join() for _ in range(3)]
    taking = [asyncio.create_task(take(listener, 1_001)) for listener in listeners]
    await broker.submit(new(broker))
    for _ in range(10):
        await broker.submit_many([new(broker) for _ in range(100)])
    for frames in await asyncio.gather(*taking):
        assert [number_of(frame) for frame in frames] == list(range(1, 1_002))
    for listener in listeners:
        await hub.leave(listener)
    await hub.close()


async def test_stream_is_read_only_while_somebody_listens(hub: Hub) -> None:
    """Without listeners a server leaves the event stream alone."""
    first, second = await hub.join(), await hub.join()
    assert (hub.count(), reading()) == (2, _READING)
    await hub.leave(first)
    async with hub.watching("a-task"):
        await hub.leave(second)
        await asyncio.sleep(0.05)
        assert (hub.count(), reading()) == (0, _READING)
    await quiet()
    third = await hub.join()
    assert reading() == _READING
    await hub.leave(third)
    await quiet()


async def test_the_next_listener_finds_the_stream_read(broker: Broker) -> None:
    """Listeners that come and go do not cost a connection each."""
    hub = Hub(broker, lambda: 0, report_seconds=3_600, linger_seconds=60)
    await hub.leave(await hub.join())
    before = [task for task in asyncio.all_tasks() if task.get_name() == "events"]
    await hub.leave(await hub.join())
    assert [task for task in asyncio.all_tasks() if task.get_name() == "events"] == before
    await hub.close()
    assert reading() == set()


async def test_listeners_are_told_that_the_server_stops(hub: Hub) -> None:
    """All of them, and closing waits until they are gone, but not for ever."""
    one, deaf = await hub.join(), await hub.join()
    closing = asyncio.create_task(hub.close())
    assert await one.take() == [Close(1001)]
    await hub.leave(one)
    assert not closing.done()
    assert await deaf.take() == [Close(1001)]
    await closing
    await hub.leave(deaf)


async def test_latecomers_of_a_closed_hub_are_sent_away(hub: Hub) -> None:
    """Who connects while the server stops is told so, who waits waits for nothing."""
    await hub.close()
    subscriber = await hub.join()
    assert await subscriber.take() == [Close(1001)]
    await hub.leave(subscriber)
    async with hub.watching("a-task") as waiter:
        assert waiter is None


async def test_listeners_may_leave_at_any_moment(broker: Broker) -> None:
    """Leaving stops the reader even while its first command is on its way."""
    for turns in range(20):
        hub = Hub(broker, lambda: 0, linger_seconds=0)
        subscriber = await hub.join()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(1.5):  # shorter than a read that waits for events
            await hub.leave(subscriber)
            await hub.close()


async def test_nobody_joins_what_cannot_be_read(settings: Settings) -> None:
    """Without a broker there is nothing to promise a listener; who waits for a task just waits."""
    away = RedisSettings(url="redis://127.0.0.1:1", max_retries=0)
    broker = open_broker(settings.model_copy(update={"redis": away}))
    hub = Hub(broker, lambda: 0)
    with pytest.raises(BrokerUnavailableError):
        await hub.join()
    assert hub.count() == 0
    async with hub.watching("a-task") as waiter:
        assert waiter is not None
    await hub.close()
    await broker.close()


async def test_a_fault_in_reading_sends_listeners_away(
    broker: Broker, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come again and find a reader that works."""
    one = await hub.join()
    with monkeypatch.context() as patch:
        patch.setattr(hub, "_tell", lambda events: 1 / 0)
        await broker.submit(new(broker))
        async with asyncio.timeout(5):
            assert await one.take() == [Close(1001)]
    await hub.leave(one)
    again = await hub.join()
    await broker.submit(new(broker))
    assert (await take(again, 1))[0]["type"] == "task.submitted"
    await hub.leave(again)


async def test_a_fault_in_a_report_is_not_the_last_one(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports go on after an error, of the broker or of our own."""
    hub = Hub(broker, lambda: 0, report_seconds=0.01)
    errors = iter([BrokerUnavailableError("away"), ValueError("a bug")])
    stats = broker.inspection.stats

    async def fail_first() -> dict[str, int]:
        for error in errors:
            raise error
        return await stats()

    monkeypatch.setattr(broker.inspection, "stats", fail_first)
    one = await hub.join()
    assert {frame["type"] for frame in await take(one, 2)} == {"queue.depth", "system.metrics"}
    await hub.leave(one)
    await hub.close()
