"""release: a delivery goes back to its stream as if it had not been made."""

from __future__ import annotations

import pytest
from bench import Bench, changes, release, task_id_of

from taskqueue_core.models import OutcomeStatus

pytestmark = pytest.mark.anyio

ACCEPTED, ALREADY = OutcomeStatus.ACCEPTED, OutcomeStatus.ALREADY


async def test_release(bench: Bench) -> None:
    """The task is at the end of its stream again, its creation time kept, its queue rung."""
    delivery = await bench.start()
    await bench.redis.delete(bench.keys.bell("default"))
    before = await bench.snapshot()
    assert await bench.w1.release([release(delivery)]) == [ACCEPTED]
    after = await bench.snapshot()
    [(_, entry, owner)] = after["q:default:1"]
    found = changes(before, after)
    [(kind, data)] = found.pop("events")
    assert (kind, data["state"], data["attempts"]) == ("task.queued", "pending", 0)
    assert owner == ""
    assert found == {
        f"t:{delivery.digits}": {
            "s": "p", "m": entry, "a": "0", "u": str(bench.now),
            "c": str(delivery.enqueued_at_ms),
        },
        "q:default:1": [(delivery.digits, entry, "")],
        "wake:default": ["1"],
        "meta": {"events": "4"},
    }  # fmt: skip


async def test_no_attempt_is_burned(bench: Bench) -> None:
    """Deliveries go on counting, attempts do not."""
    delivery = await bench.start()
    for number in (2, 3):
        await bench.w1.release([release(delivery)])
        delivery = (await bench.fetch()).deliveries[0]
        assert (delivery.number, delivery.attempts) == (number, 1)
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert (task.attempts, task.deliveries, task.lost_leases) == (1, 3, 0)


async def test_repeat(bench: Bench) -> None:
    """The same release again changes nothing, also within one call."""
    delivery = await bench.start()
    assert await bench.w1.release([release(delivery)] * 2) == [ACCEPTED, ALREADY]
    before = await bench.snapshot()
    assert await bench.w1.release([release(delivery)]) == [ALREADY]
    assert changes(before, await bench.snapshot()) == {}
