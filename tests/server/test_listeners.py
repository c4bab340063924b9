"""The buffer of one listener: what it wants, what it misses, and that nothing grows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from taskqueue_core.events import Event, gap_event
from taskqueue_server.framing import text_frame
from taskqueue_server.listeners import (
    BATCH,
    MAX_REPLIES,
    Close,
    Frame,
    Subscriber,
    event_frame,
    make_frame,
)
from taskqueue_server.selection import Selection

pytestmark = pytest.mark.anyio


def event(number: int, event_type: str = "task.started", **more: Any) -> Frame:
    """Return the frame of a numbered event."""
    data = {"task_id": more.pop("task_id", f"t{number}"), "number": number}
    return event_frame(Event(number, event_type, 1, data, **more), str(number))


def frames(first: int, last: int) -> list[Frame]:
    """Return numbered frames."""
    return [event(number) for number in range(first, last + 1)]


def shown(items: Iterable[Frame | Close]) -> list[Any]:
    """Return what a client would see: numbers, what gaps say, codes."""
    seen: list[Any] = []
    for item in items:
        if isinstance(item, Close):
            seen.append(item)
        else:
            frame = json.loads(item.body)
            seen.append(frame["data"].get("number", frame["data"]))
    return seen


def slow(missed: int) -> dict[str, Any]:
    """Return the data of a gap of a slow reader."""
    return {"missed": missed, "reason": "slow"}


async def test_gap_is_at_the_place_of_the_loss() -> None:
    """What was there before the loss comes first, what came after it last."""
    subscriber = Subscriber(3)
    subscriber.offer(frames(1, 7), 0)
    assert shown(await subscriber.take()) == [1, 2, 3, slow(4)]
    subscriber.offer(frames(8, 9), 0)
    assert shown(await subscriber.take()) == [8, 9]


async def test_a_gap_grows_until_there_is_room() -> None:
    """One loss is one gap, however many calls it takes."""
    subscriber = Subscriber(2)
    for number in range(1, 6):
        subscriber.offer(frames(number, number), 0)
    assert shown(await subscriber.take()) == [1, 2, slow(3)]
    gap = event_frame(gap_event(9, 1, 4, "trimmed"), "")
    subscriber.offer([*frames(10, 11), gap, make_frame("queue.depth", 0, {})], 0)
    assert shown(await subscriber.take()) == [10, 11, slow(4)]


async def test_what_was_never_in_the_stream_is_not_missed() -> None:
    """A report that finds no room is old before it could be sent."""
    subscriber = Subscriber(1)
    subscriber.offer([event(1), make_frame("queue.depth", 0, {"depths": 1})], 0)
    assert shown(await subscriber.take()) == [1]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [1, 2, 3, 4, "gap 0", "gap 1", "report"]),
        (Selection(types=frozenset({"task.failed"})), [2, "gap 0", "gap 1"]),
        (Selection(types=frozenset()), ["gap 0", "gap 1"]),
        (Selection(types=frozenset({"queue.depth"})), ["gap 0", "gap 1", "report"]),
        (Selection(task_id="a", partition=1), [1, 2, "gap 1"]),
        (Selection(task_id="a", partition=1, owner="other"), ["gap 1"]),
        (Selection(owner="acme"), [1, 2, "gap 0", "gap 1"]),
        (Selection(owner="acme", types=frozenset({"task.failed"})), [2, "gap 0", "gap 1"]),
    ],
)
async def test_selections(selection: Selection, expected: list[Any]) -> None:
    """A listener gets what it wants, and every gap that what it wants may be in."""
    subscriber = Subscriber(100, selection)
    subscriber.offer(
        [
            event(1, task_id="a", owner="acme", partition=1),
            event(2, "task.failed", task_id="a", owner="acme", partition=1),
            event(3, task_id="b", owner="other"),
            event(4, "worker.left", task_id=""),
            *(event_frame(gap_event(9, 1, 1, "trimmed", partition=n), "") for n in (0, 1)),
            make_frame("queue.depth", 0, {"number": "report"}),
        ],
        0,
    )
    seen = [
        f"gap {frame.partition}" if frame.missed else json.loads(frame.body)["data"]["number"]
        for frame in await subscriber.take()
        if isinstance(frame, Frame)
    ]
    assert seen == expected


async def test_unwanted_events_are_not_missed() -> None:
    """Only what was asked for counts."""
    subscriber = Subscriber(1, Selection(types=frozenset({"task.failed"})))
    subscriber.offer([*frames(1, 5), event(6, "task.failed"), *frames(7, 9)], 0)
    assert shown(await subscriber.take()) == [6]


async def test_large_backlog_comes_in_parts() -> None:
    """A hand-over is bounded, so that other work gets its turn."""
    subscriber = Subscriber(1_000)
    subscriber.offer(frames(1, 200), 0)
    parts = [shown(await subscriber.take()), shown(await subscriber.take())]
    assert (len(parts[0]), parts[0] + parts[1]) == (BATCH, list(range(1, 201)))


async def test_room_is_waited_for() -> None:
    """Whoever must not lose anything waits until the listener has taken enough."""
    subscriber = Subscriber(10)
    subscriber.offer(frames(1, 8), 0)
    await subscriber.room(2)
    waiting = asyncio.create_task(subscriber.room(3))
    await asyncio.sleep(0)
    assert not waiting.done()
    await subscriber.take()
    await waiting


async def test_flood_of_unread_answers_ends_the_connection() -> None:
    """A client that asks without reading cannot make the buffer grow."""
    subscriber = Subscriber(10)
    for frame in frames(0, MAX_REPLIES):
        subscriber.reply(frame)
    subscriber.offer(frames(1, 1), 0)
    subscriber.reply(event(2))
    assert await subscriber.take() == [Close(1008)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_what_a_client_reads(size: int) -> None:
    """The bytes are those that the WebSocket library makes."""
    from websockets.frames import Frame as Expected
    from websockets.frames import Opcode

    body = b"x" * size
    assert text_frame(body) == Expected(Opcode.TEXT, body).serialize(mask=False)
