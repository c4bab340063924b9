"""Slow listeners: what they miss is said at the place of the loss, and nobody else waits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from taskqueue_core.broker import Broker
from taskqueue_core.models import NewTask
from taskqueue_server.app import Application, create_app
from taskqueue_server.hub import MAX_REPLIES, Close, Frame, Hub, Subscriber
from taskqueue_server.messages import Message, Scope

pytestmark = pytest.mark.anyio

_SCOPE: Scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}


def frames(first: int, last: int) -> list[Frame]:
    """Return numbered frames."""
    return [Frame("task.started", str(number)) for number in range(first, last + 1)]


def shown(items: list[Frame | Close]) -> list[Any]:
    """Return what a client would see: numbers, and how many are missed."""
    return [
        json.loads(item.text)["data"] if item.type == "events.gap" else int(item.text)
        for item in items
        if isinstance(item, Frame)
    ]


async def test_gap_is_at_the_place_of_the_loss() -> None:
    """What was there before the loss comes first, what came after it last."""
    subscriber = Subscriber(3)
    for frame in frames(1, 7):
        subscriber.offer(frame, 0)
    assert shown(await subscriber.take()) == [1, 2, 3, {"missed": 4}]
    for frame in frames(8, 9):
        subscriber.offer(frame, 0)
    assert shown(await subscriber.take()) == [8, 9]


async def test_unwanted_events_are_not_missed() -> None:
    """Only what was asked for counts."""
    subscriber = Subscriber(1)
    subscriber.selected = frozenset({"task.failed"})
    for frame in frames(1, 5):
        subscriber.offer(frame, 0)
    subscriber.offer(Frame("task.failed", "6"), 0)
    assert shown(await subscriber.take()) == [6]


async def test_large_backlog_comes_in_parts() -> None:
    """A hand-over is bounded, so that other work gets its turn."""
    subscriber = Subscriber(100)
    for frame in frames(1, 40):
        subscriber.offer(frame, 0)
    parts = [shown(await subscriber.take()), shown(await subscriber.take())]
    assert (len(parts[0]), parts[0] + parts[1]) == (32, list(range(1, 41)))


async def test_flood_of_unread_answers_ends_the_connection() -> None:
    """A client that asks without reading cannot make the buffer grow."""
    subscriber = Subscriber(10)
    for frame in frames(0, MAX_REPLIES):
        subscriber.reply(frame)
    subscriber.offer(Frame("task.started", "1"), 0)
    assert (await subscriber.take())[0] == Close(1008)


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
        await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
        await fast.wait_for(len(fast.received) + 1)
    slow.flows.set()
    await slow.wait_for(3)
    await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
    everything = [int(frame["id"]) for frame in await fast.wait_for(41)]
    assert everything == list(range(everything[0], everything[0] + 41))
    received = await slow.wait_for(len(slow.received))
    while received[-1].get("id") != str(everything[-1]):
        received = await slow.wait_for(len(received) + 1)
    missed = [frame["data"]["missed"] for frame in received if frame["type"] == "events.gap"]
    assert len(received) - len(missed) + sum(missed) == 41
    assert len(missed) == 1
    for client in (slow, fast):
        client.leave()
    await asyncio.gather(*running)


async def test_stream_is_read_only_while_somebody_listens(broker: Broker) -> None:
    """Without listeners a server leaves the event stream alone."""
    hub = Hub(broker, lambda: 0)
    names = {"events", "reports"}

    def reading() -> set[str]:
        return names & {task.get_name() for task in asyncio.all_tasks()}

    first, second = await hub.join(), await hub.join()
    assert (hub.count(), reading()) == (2, names)
    await hub.leave(first)
    assert reading() == names
    await hub.leave(second)
    assert (hub.count(), reading()) == (0, set())


async def test_latecomers_of_a_closed_hub_are_sent_away(broker: Broker) -> None:
    """Who connects while the server stops is told so."""
    hub = Hub(broker, lambda: 0)
    await hub.close()
    subscriber = await hub.join()
    assert await subscriber.take() == [Close(1001)]
    await hub.leave(subscriber)


async def test_listeners_may_leave_at_any_moment(broker: Broker) -> None:
    """Leaving stops the reader even while its first command is on its way."""
    for turns in range(20):
        hub = Hub(broker, lambda: 0)
        subscriber = await hub.join()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(1.5):  # shorter than a read that waits for events
            await hub.leave(subscriber)
