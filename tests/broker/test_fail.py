"""fail: a delivery ends with an error; the task is retried, or given up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bench import Bench, changes, fail, task_id_of

from taskqueue_core.models import OutcomeStatus
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

ACCEPTED, ALREADY = OutcomeStatus.ACCEPTED, OutcomeStatus.ALREADY


async def test_retry_later(bench: Bench) -> None:
    """With retries left the task goes to the schedule; its attempt counts."""
    delivery = await bench.start()
    before = await bench.snapshot()
    outcome = fail(delivery, max_retries=1, delay_ms=2_000, history=b'{"error":"broken"}')
    assert await bench.w1.fail([outcome]) == [ACCEPTED]
    found = changes(before, await bench.snapshot())
    due = bench.now + 2_000
    [(kind, data)] = found.pop("events")
    assert found == {
        f"t:{delivery.digits}": {"s": "y", "e": str(bench.now), "n": str(due), "v": "broken"},
        f"h:{delivery.digits}": ['{"error":"broken"}'],
        "q:default:1": [],
        "sched": {delivery.digits: due},
        "stats": {"retrying:other": "1"},
        "meta": {"events": "4"},
    }
    assert (kind, data["state"], data["attempts"], data["error"]) == (
        "task.retrying", "retrying", 1, "broken",
    )  # fmt: skip
    assert data["next_retry_at"] == data["scheduled_at"]


async def test_max_retries_counts_executions(bench: Bench) -> None:
    """``max_retries`` N means N + 1 executions, then a dead letter."""
    delivery = await bench.start()
    for attempt in (1, 2, 3):
        assert delivery.attempts == delivery.number == attempt
        await bench.w1.fail([fail(delivery, max_retries=2)])
        if attempt < 3:
            delivery = (await bench.fetch()).deliveries[0]
    assert await bench.state(task_id_of(delivery)) is TaskState.DEAD_LETTER


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        ({}, TaskState.DEAD_LETTER, "max_retries"),
        ({"max_retries": 9, "reason": "invalid_payload"}, TaskState.DEAD_LETTER, "invalid_payload"),
        ({"max_retries": 9, "is_dropped": True}, TaskState.FAILED, "dropped"),
        ({"max_retries": 9, "is_dropped": True, "reason": "why"}, TaskState.FAILED, "dropped"),
    ],
)
async def test_give_up(
    bench: Bench, outcome: dict[str, Any], state: TaskState, reason: str
) -> None:
    """Out of retries, not retryable, or dropped: the task ends, with the reason kept."""
    delivery = await bench.start()
    before = await bench.snapshot()
    assert await bench.w1.fail([fail(delivery, b"e" * 65, **outcome)]) == [ACCEPTED]
    found = changes(before, await bench.snapshot())
    is_dead = state is TaskState.DEAD_LETTER
    week = bench.now + 7 * 86_400_000
    assert found.pop("dlq" if is_dead else "done") == {
        delivery.digits: bench.now if is_dead else week
    }
    kinds = [kind for kind, _ in found.pop("events")]
    assert kinds == ["task.failed", "task.dead_letter"][: 2 if is_dead else 1]
    assert found == {
        f"t:{delivery.digits}": {
            "s": "d" if is_dead else "f", "e": str(bench.now), "k": reason, "V": "1",
        },
        f"r:{delivery.digits}": b"e" * 65,
        "q:default:1": [],
        "stats": {
            "backlog": "0", f"finished:other:{state}": "1",
            **({"dead_lettered": "1"} if is_dead else {}),
        },
        "meta": {"events": "5" if is_dead else "4"},
    }  # fmt: skip


@pytest.mark.parametrize("max_retries", [0, 3])
async def test_repeat(bench: Bench, max_retries: int) -> None:
    """The same outcome again is already taken, even after the task became due again."""
    delivery = await bench.start()
    outcome = fail(delivery, max_retries=max_retries, history=b"{}")
    assert await bench.w1.fail([outcome, outcome]) == [ACCEPTED, ALREADY]
    await bench.broker.promote()
    before = await bench.snapshot()
    assert await bench.w1.fail([outcome]) == [ALREADY]
    assert changes(before, await bench.snapshot()) == {}


async def test_error_in_the_event_is_cut(bench: Bench) -> None:
    """An event carries at most 1024 bytes of the error, never half a character; the task all."""
    delivery = await bench.start()
    text = "x" + "é" * 1_000
    await bench.w1.fail([fail(delivery, text.encode())])
    data = next(e.data for e in await bench.events() if e.type == "task.failed")
    assert data["error"] == "x" + "é" * 511
    assert (await bench.broker.inspection.get(task_id_of(delivery))).error == text


async def test_reason_is_cut(bench: Bench) -> None:
    """A reason is kept up to 64 bytes, so that the hash stays small."""
    delivery = await bench.start()
    await bench.w1.fail([fail(delivery, reason="r" * 63 + "é")])
    task = await bench.broker.inspection.get(task_id_of(delivery))
    assert task.reason == "r" * 63


async def test_history_is_capped(bench: Bench) -> None:
    """The latest 20 records of failed attempts are kept."""
    delivery = await bench.start()
    for attempt in range(1, 23):
        record = json.dumps({"attempt": attempt}).encode()
        await bench.w1.fail([fail(delivery, max_retries=99, history=record)])
        delivery = (await bench.fetch()).deliveries[0]
    kept = (await bench.snapshot())[f"h:{delivery.digits}"]
    assert [json.loads(record)["attempt"] for record in kept] == list(range(3, 23))


async def test_bell_of_the_schedule(bench: Bench) -> None:
    """A retry that is due before everything else rings its queue."""
    await bench.submit(scheduled_at_ms=bench.now + 500)
    delivery = await bench.start()
    await bench.redis.delete(bench.keys.bell("default"))
    await bench.w1.fail([fail(delivery, max_retries=1, delay_ms=100)])
    assert (await bench.snapshot())["wake:default"] == ["1"]
