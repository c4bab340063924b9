"""Whatever goes through many tasks does so in short calls, with bounded tasks and bytes in each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from bench import Bench, fail

from taskqueue_core.broker import TaskQuery
from taskqueue_core.broker import search as search_module
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.keys import Keys, id_to_hex
from taskqueue_core.models import Priority

pytestmark = pytest.mark.anyio


async def test_bodies_without_the_metadata_are_not_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script sees that a text is nowhere in them, whatever bodies there are."""
    digits: list[str] = []
    read = bench.broker.inspection.read

    async def record(keys: Keys, names: Sequence[str]) -> Any:
        digits.extend(names)
        return await read(keys, names)

    large = b'{"x":"%b"}' % (b"y" * 100)
    for number in range(30):
        payload = large if number % 2 else b"{}"
        await bench.submit(payload=payload, metadata=b'{"customer":"%d"}' % number)
    monkeypatch.setattr(bench.broker.inspection, "read", record)
    page = await bench.broker.search.page(TaskQuery(metadata=(("customer", "17"),)), limit=5)
    assert digits == [id_to_hex(one.task.id) for one in page.found]
    assert len(digits) == 1


async def test_steps_are_short(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call looks at so many tasks or bodies, and reads so many bytes; a page makes some calls."""
    calls: list[tuple[str, int]] = []
    call = Scripts.call

    async def record(self: Scripts, name: str, keys: Sequence[str], *rest: Any) -> Any:
        answer = await call(self, name, keys, *rest)
        calls.append((name, len(keys) - 1 if name == "read" else int(rest[0][0])))
        return answer

    monkeypatch.setattr(search_module, "CANDIDATES", 25)
    monkeypatch.setattr(search_module, "STEP", 10)
    monkeypatch.setattr(search_module, "STEP_BYTES", 1_000)
    payload = b'{"x":"%b"}' % (b"y" * 300)
    made = [await bench.submit(payload=payload, metadata=b'{"a":"b"}') for _ in range(9)]
    monkeypatch.setattr(Scripts, "call", record)
    assert (await bench.broker.search.page(TaskQuery(type="none"), limit=5)).found == []
    assert calls == [("search", 10)]
    calls.clear()
    # Four bodies are more than 1000 bytes: the call ends, and three calls are a page.
    page = await bench.broker.search.page(TaskQuery(metadata=(("a", "c"),)), limit=5)
    assert (page.found, page.cursor is None) == ([], True)
    assert calls == [("search", 10), ("search", 10), ("search", 5)]
    calls.clear()
    page = await bench.broker.search.page(TaskQuery(), limit=9)
    assert [one.task.id for one in page.found] == made
    assert calls == [("search", 10), ("read", 3), ("read", 3), ("read", 3)]


async def test_what_changes_many_tasks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters are sent back, given up and counted, and tasks purged, some at a time."""
    most: dict[str, set[int]] = defaultdict(set)
    places = {"redrive": 1, "clear": 1, "tally": 0, "purge": 2}
    call = Scripts.call

    async def record(self: Scripts, name: str, keys: Sequence[str], *rest: Any) -> Any:
        if name in places:
            most[name].add(int(rest[0][places[name]]))
        return await call(self, name, keys, *rest)

    async def bury() -> None:
        deliveries = (await bench.fetch(100)).deliveries
        await bench.w1.fail([fail(delivery) for delivery in deliveries])

    monkeypatch.setattr(Scripts, "call", record)
    await bench.broker.submit_many([bench.new() for _ in range(90)])
    await bench.join()
    await bury()
    assert await bench.broker.dead_letters.count() == 90
    assert await bench.broker.redrive() == 90
    await bury()
    assert await bench.broker.clear() == 90
    await bench.broker.submit_many([bench.new() for _ in range(90)])
    assert await bench.broker.purge(Priority.NORMAL) == 90
    assert most == {"redrive": {25}, "clear": {50}, "tally": {25}, "purge": {50}}
