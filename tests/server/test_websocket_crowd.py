"""A crowd of clients while tasks are drained: nobody is cut off, nobody misses anything unsaid."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from taskqueue_core.broker import Broker, WorkerSession, open_broker
from taskqueue_core.models import Delivery, NewTask, Outcome, OutcomeKind
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import Settings
from taskqueue_server.app import create_app
from taskqueue_server.serving import Server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

CLIENTS, TASKS = 100, 150


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[str]:
    """Yield host:port of a server whose clients are sent little in advance."""
    listener = bind_listener("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    host, port = listener.getsockname()[:2]
    app = create_app(settings, broker=open_broker(settings), capacity=100, report_seconds=3_600)
    server = Server(app, settings)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"{host}:{port}"
    server.should_exit = True
    await running
    listener.close()


def narrow_socket(address: str) -> socket.socket:
    """Return a connection that takes little in advance; later it would be too late to say so."""
    host, _, port = address.partition(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect((host, int(port)))
    narrow.setblocking(False)
    return narrow


async def drain(broker: Broker, value: bytes = b"1") -> list[str]:
    """Submit tasks and end all of them, one way or another; their ids.

    ``value`` is the result of each, or its error.
    """
    session = broker.session("w1", "i1")
    await session.register(concurrency=50, version="1", handlers={})
    ids = [broker.new_task_id() for _ in range(TASKS)]
    for start in range(0, TASKS, 30):
        chunk = ids[start : start + 30]
        await broker.submit_many([NewTask(id=task_id, type="echo") for task_id in chunk])
        await broker.cancel(chunk[0])
        await _work(broker, session, start, value)
    await session.deregister()
    return ids


async def _work(broker: Broker, session: WorkerSession, request: int, value: bytes) -> None:
    streams = [broker.partitions[0].stream("default", 1)]
    while True:
        request += 1
        deliveries = (await session.fetch(10, streams=streams, request=request)).deliveries
        if not deliveries:
            return
        await session.fail([_outcome(one, OutcomeKind.FAIL, value) for one in deliveries[:5]])
        ended = [_outcome(one, OutcomeKind.COMPLETE, value) for one in deliveries[5:]]
        await session.complete(ended)


def _outcome(delivery: Delivery, kind: OutcomeKind, value: bytes) -> Outcome:
    return Outcome(delivery=delivery, kind=kind, value=value, max_retries=0)


async def read(client: ClientConnection, last: str) -> list[dict[str, Any]]:
    """Return everything up to the event with the id ``last``."""
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1].get("id") != last:
        frames.append(msgspec.json.decode(await client.recv()))
    return frames


async def read_until(client: ClientConnection, event_type: str) -> list[dict[str, Any]]:
    """Return everything up to the first event of a type."""
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1]["type"] != event_type:
        frames.append(msgspec.json.decode(await client.recv()))
    return frames


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of the events, in a row with those that gaps stand for."""
    found: list[int] = []
    for frame in frames:
        if frame["type"] == "events.gap":
            found += range(found[-1] + 1, found[-1] + 1 + frame["data"]["missed"])
        else:
            found.append(int(frame["id"].rpartition("-")[2]))
    return found


def folded(frames: list[dict[str, Any]]) -> dict[str, str]:
    """Return the state of each task by its events."""
    states = {}
    for frame in frames:
        if "task_id" in frame["data"]:
            states[frame["data"]["task_id"]] = frame["data"]["state"]
    return states


async def test_everybody_has_every_event(address: str, broker: Broker) -> None:
    """A hundred clients get the same events, whose fold is the state of every task."""
    types = ",".join(f"task.{name}" for name in ("submitted", "started", "completed", "failed",
                                                  "dead_letter", "cancelled"))  # fmt: skip
    url = f"ws://{address}/ws?events=worker.joined,worker.left,{types}"
    clients = await asyncio.gather(*(connect(url) for _ in range(CLIENTS)))
    reading = [asyncio.create_task(read_until(client, "worker.left")) for client in clients]
    ids = await drain(broker)
    seen = await asyncio.gather(*reading)
    assert all(frames == seen[0] for frames in seen)
    assert numbers(seen[0]) == list(range(1, len(seen[0]) + 1))
    assert len(seen[0]) > 3 * TASKS
    stored = {task_id: str((await broker.inspection.get(task_id)).state) for task_id in ids}
    assert folded(seen[0]) == stored
    assert set(stored.values()) == {"completed", "dead_letter", "cancelled"}
    assert [client.close_code for client in clients] == [None] * CLIENTS
    await asyncio.gather(*(client.close() for client in clients))


async def test_slow_ones_are_told_what_they_missed(narrow: str, broker: Broker) -> None:
    """They stay, the others notice nothing, and every event is there or counted."""
    slow = await connect(f"ws://{narrow}/ws", sock=narrow_socket(narrow), max_queue=1)
    quick = [await connect(f"ws://{narrow}/ws", max_queue=None) for _ in range(5)]
    for _ in range(4):
        reading = [asyncio.create_task(read_until(client, "worker.left")) for client in quick]
        await drain(broker, b"e" * 1_000)
        seen = await asyncio.gather(*reading)
        assert all(frames == seen[0] for frames in seen)
        assert numbers(seen[0])[0] + len(seen[0]) - 1 == numbers(seen[0])[-1]
    # One event more, so that the gap has an end.
    late = asyncio.create_task(read_until(slow, "task.queued"))
    end = time.monotonic() + 10
    while not late.done():
        assert time.monotonic() < end
        task = await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
        await broker.cancel(task.id)
        await broker.retry(task.id)
        await asyncio.sleep(0.05)
    frames = late.result()
    kinds = [frame["type"] for frame in frames]
    gaps = [frame["data"] for frame in frames if frame["type"] == "events.gap"]
    assert {gap["reason"] for gap in gaps} == {"slow"}
    assert numbers(frames) == list(range(1, numbers(frames)[-1] + 1))
    # What it lost it can still have.
    last = frames[kinds.index("events.gap") - 1]
    again = await connect(f"ws://{narrow}/ws?since={last['id']}", max_queue=None)
    recovered = await read(again, frames[-1]["id"])
    assert numbers([last, *recovered]) == list(range(*numbers([last]), numbers(frames)[-1] + 1))
    for client in (slow, again, *quick):
        client.transport.abort()


async def test_a_crowd_comes_back(address: str, broker: Broker) -> None:
    """A hundred clients that were cut off all miss nothing, while tasks go on."""
    clients = await asyncio.gather(*(connect(f"ws://{address}/ws") for _ in range(CLIENTS)))
    for client in clients:
        client.transport.abort()
    draining = asyncio.create_task(drain(broker))
    await asyncio.sleep(0)
    back = await asyncio.gather(*(connect(f"ws://{address}/ws?since=0") for _ in range(CLIENTS)))
    seen = await asyncio.gather(*(read_until(client, "worker.left") for client in back))
    await draining
    for frames in seen:
        events = [frame for frame in frames if "id" in frame]
        assert numbers(events) == list(range(1, len(events) + 1))
    for client in back:
        client.transport.abort()
