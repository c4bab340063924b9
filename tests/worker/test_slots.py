"""Slots: what is free, and who gets the next one."""

from __future__ import annotations

import asyncio

import pytest

from taskqueue_core.worker.slots import Slots

pytestmark = pytest.mark.anyio


def test_what_is_taken_comes_back() -> None:
    """Never more than there is; whoever listens hears of each return."""
    slots = Slots(3)
    heard = []
    slots.tell(lambda: heard.append(slots.free))
    assert (slots.take(2), slots.take(2), slots.take(2)) == (2, 1, 0)
    slots.give(2)
    slots.give(0)
    assert (slots.free, heard) == (2, [2])


async def test_who_waits_is_served_first() -> None:
    """In order, before those who hear of it; the rest is free for them."""
    slots = Slots(2)
    slots.take(2)
    heard = []
    slots.tell(lambda: heard.append(slots.free))
    first, second = (asyncio.create_task(slots.take_next(5)) for _ in range(2))
    await asyncio.sleep(0)
    slots.give(1)
    assert await first == 1
    assert not second.done()
    slots.give(1)
    assert await second == 1
    assert (slots.free, heard) == (0, [0, 0])


async def test_nobody_waits_for_ever() -> None:
    """After the time there is none, and the next one is free for all."""
    slots = Slots(1)
    slots.take(1)
    assert await slots.take_next(0.01) == 0
    slots.give(1)
    assert slots.free == 1


@pytest.mark.parametrize("is_granted", [False, True])
async def test_a_wait_that_is_broken_off_keeps_no_slot(is_granted: bool) -> None:
    """Not even when the slot had just been granted."""
    slots = Slots(1)
    slots.take(1)
    waiting = asyncio.create_task(slots.take_next(5))
    await asyncio.sleep(0)
    if is_granted:
        slots.give(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not is_granted:
        slots.give(1)
    assert slots.free == 1
