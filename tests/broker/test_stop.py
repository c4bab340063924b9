"""stop: a worker that is shutting down says so."""

from __future__ import annotations

import pytest
from bench import Bench, changes

pytestmark = pytest.mark.anyio


async def test_stop_and_repeat(bench: Bench) -> None:
    """The worker is shown as shutting down, once or twice said."""
    await bench.join()
    before = await bench.snapshot()
    for _ in range(2):
        await bench.w1.stop()
    assert changes(before, await bench.snapshot()) == {"w:w1": {"stopping": "1"}}
    assert (await bench.broker.inspection.worker("w1")).state == "shutting_down"


async def test_another_instance(bench: Bench) -> None:
    """Without a registration of its own nothing is written: no hash without an expiry is born."""
    await bench.join()
    before = await bench.snapshot()
    await bench.broker.session("w1", "i2").stop()
    await bench.broker.session("w9", "i9").stop()
    assert changes(before, await bench.snapshot()) == {}
