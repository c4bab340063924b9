"""Calls that callers share: how many, with what, and who gets which answer or error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from taskqueue_core.broker.coalescing import Coalescer
from taskqueue_core.errors import BrokerUnavailableError

pytestmark = pytest.mark.anyio


class Double:
    """A call that doubles numbers, and waits to be let on; it fails for a negative one."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception = ValueError("negative")

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await self.open.wait()
        if min(items) < 0:
            raise self.failure
        return [2 * item for item in items]


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_turn_is_one_call() -> None:
    """What is asked for in one turn of the loop goes together; each gets its own answer."""
    double = Double()
    coalescer = Coalescer(double, most=100)
    assert await asyncio.gather(*map(coalescer.ask, range(5))) == [0, 2, 4, 6, 8]
    assert await coalescer.ask(7) == 14
    assert double.calls == [[0, 1, 2, 3, 4], [7]]


async def test_one_after_the_other() -> None:
    """A caller that asks again as soon as it is answered is never left waiting."""
    double = Double()
    coalescer = Coalescer(double, most=100, at_once=1)

    async def ask(times: int) -> None:
        for number in range(times):
            assert await coalescer.ask(number) == 2 * number

    async with asyncio.timeout(5):
        await asyncio.gather(ask(50), ask(70), ask(90))
    assert len(double.calls) == 90


async def test_a_call_has_a_size_and_few_are_under_way() -> None:
    """More than fits waits for the next call, more than may be under way for an end."""
    double = Double()
    double.open.clear()
    coalescer = Coalescer(double, most=3, at_once=2)
    asked = [coalescer.ask(number) for number in range(8)]
    await settle()
    assert double.calls == [[0, 1, 2], [3, 4, 5]]
    double.open.set()
    assert await asyncio.gather(*asked) == [2 * number for number in range(8)]
    assert double.calls[2:] == [[6, 7]]


async def test_a_heavy_call_takes_no_more() -> None:
    """Once its items weigh enough, the next item is for the next call."""
    double = Double()
    coalescer = Coalescer(double, most=100, weigh=int, heaviest=10)
    await asyncio.gather(*map(coalescer.ask, [4, 6, 1, 30, 2]))
    assert double.calls == [[4, 6], [1, 30], [2]]


async def test_who_gives_up_is_not_asked_for() -> None:
    """A caller that leaves while it waits costs nothing, one that leaves later harms nobody."""
    double = Double()
    double.open.clear()
    coalescer = Coalescer(double, most=1, at_once=1)
    first, second, third = (asyncio.create_task(wait_for(coalescer, n)) for n in range(3))
    await settle()
    first.cancel()
    second.cancel()
    await settle()
    double.open.set()
    assert await third == 4
    assert double.calls == [[0], [2]]


async def wait_for(coalescer: Coalescer[int, int], number: int) -> int:
    """Ask as a request does."""
    return await coalescer.ask(number)


async def test_an_error_is_that_of_the_call() -> None:
    """All of a call get it, the next call is another one."""
    double = Double()
    double.open.clear()
    coalescer = Coalescer(double, most=2, at_once=1)
    asked = [coalescer.ask(number) for number in (1, -1, 3)]
    await settle()
    double.open.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert found == [double.failure, double.failure, 6]


async def test_an_outage_is_told_to_all_who_wait() -> None:
    """When nobody answered, those behind need not find out for themselves."""
    double = Double()
    double.failure = BrokerUnavailableError("gone")
    double.open.clear()
    coalescer = Coalescer(double, most=2, at_once=1)
    asked = [coalescer.ask(number) for number in (1, -1, 3, 4, 5)]
    await settle()
    double.open.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert found == [double.failure] * 5
    assert double.calls == [[1, -1]]
    assert await coalescer.ask(3) == 6


async def test_too_few_answers_are_an_error() -> None:
    """Nobody waits for ever when a call answers less than it was asked."""

    async def forget(items: Sequence[int]) -> list[int]:
        return list(items)[:-1]

    coalescer = Coalescer(forget, most=2)
    with pytest.raises(ValueError, match="shorter"):
        await asyncio.gather(coalescer.ask(1), coalescer.ask(2))


async def test_closing_ends_everything() -> None:
    """No call goes on, no caller waits on."""
    double = Double()
    double.open.clear()
    coalescer = Coalescer(double, most=1, at_once=1)
    asked = [coalescer.ask(number) for number in range(3)]
    await settle()
    await coalescer.close()
    assert all(future.cancelled() for future in asked)
    assert double.calls == [[0]]
