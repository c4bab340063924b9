"""read: tasks as they are at one moment."""

from __future__ import annotations

import pytest
from bench import Bench, changes, complete

from taskqueue_core.keys import id_to_hex

pytestmark = pytest.mark.anyio

LARGE = b'"' + b"x" * 80 + b'"'


@pytest.mark.parametrize("payload", [b"{}", LARGE])
@pytest.mark.parametrize("result", [b"", b"true", LARGE])
async def test_body_and_result(bench: Bench, payload: bytes, result: bytes) -> None:
    """Wherever they are kept, body and result come with the hash."""
    delivery = await bench.start(payload=payload)
    await bench.w1.complete([complete(delivery, result)])
    keys = [bench.keys.meta, bench.keys.task(delivery.digits)]
    before = await bench.snapshot()
    [[fields, body, value]] = await bench.broker.scripts.call("read", keys, [""])
    assert (body, value) == (b"[%b]" % payload, result)
    assert dict(zip(fields[::2], fields[1::2], strict=True))[b"s"] == b"c"
    assert changes(before, await bench.snapshot()) == {}


async def test_order_and_absence(bench: Bench) -> None:
    """Answers come in the order asked for, empty for a task that does not exist."""
    first, second = await bench.submit("first"), await bench.submit("second")
    digits = [id_to_hex(second), "0" * 32, id_to_hex(first)]
    keys = [bench.keys.meta, *map(bench.keys.task, digits)]
    rows = await bench.broker.scripts.call("read", keys, [""] * 3)
    assert [row[0][row[0].index(b"y") + 1] if row[0] else None for row in rows] == [
        b"second",
        None,
        b"first",
    ]
    assert rows[1] == [[], b"", b""]


async def test_result_key_is_left_out_when_it_is_stale(bench: Bench) -> None:
    """What the hash says decides: an error kept apart is not read as a small result."""
    task_id = await bench.submit()
    await bench.redis.set(bench.keys.result(id_to_hex(task_id)), b"left over")
    keys = [bench.keys.meta, bench.keys.task(id_to_hex(task_id))]
    assert (await bench.broker.scripts.call("read", keys, [""]))[0][2] == b""
