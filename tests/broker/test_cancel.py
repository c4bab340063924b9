"""cancel: a task that is not running ends as cancelled."""

from __future__ import annotations

import pytest
from bench import DAY_MS, Bench, changes, task_id_of

from taskqueue_core.errors import NotFoundError, StateConflictError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import CANCELLABLE, TaskState

pytestmark = pytest.mark.anyio


async def test_pending(bench: Bench) -> None:
    """A cancelled task leaves its stream: no worker ever sees it."""
    await bench.join()
    task_id = await bench.submit()
    before = await bench.snapshot()
    await bench.broker.cancel(task_id)
    found = changes(before, await bench.snapshot())
    digits = id_to_hex(task_id)
    [(kind, data)] = found.pop("events")
    assert (kind, data["state"]) == ("task.cancelled", "cancelled")
    assert len(found[f"t:{digits}"].pop("x")) == 16
    assert found == {
        f"t:{digits}": {"s": "x", "e": str(bench.now)},
        "q:default:1": [],
        "done": {digits: bench.now + 7 * DAY_MS},
        "stats": {"backlog": "0", "finished:other:cancelled": "1"},
        "meta": {"events": "3"},
    }
    assert (await bench.fetch(5)).deliveries == []


@pytest.mark.parametrize("state", [TaskState.SCHEDULED, TaskState.RETRYING])
async def test_waiting_for_its_time(bench: Bench, state: TaskState) -> None:
    """A cancelled task leaves the schedule and never becomes due."""
    task_id, _ = await bench.make(state)
    await bench.broker.cancel(task_id)
    assert "sched" not in await bench.snapshot()
    await bench.advance(60_000)
    assert await bench.broker.promote() == (0, None)
    assert await bench.state(task_id) is TaskState.CANCELLED


@pytest.mark.parametrize("state", sorted(set(TaskState) - CANCELLABLE))
async def test_other_states(bench: Bench, state: TaskState) -> None:
    """Any other state is a conflict that names it; nothing changes."""
    task_id, _ = await bench.make(state)
    before = await bench.snapshot()
    with pytest.raises(StateConflictError) as caught:
        await bench.broker.cancel(task_id)
    assert caught.value.state == state
    assert changes(before, await bench.snapshot()) == {}


@pytest.mark.parametrize("task_id", ["nonsense", "0" * 36, None])
async def test_unknown(bench: Bench, task_id: str | None) -> None:
    """An id that names no task, or cannot, is not found."""
    with pytest.raises(NotFoundError):
        await bench.broker.cancel(task_id or bench.broker.new_task_id())


async def test_repeat(bench: Bench) -> None:
    """The same call again is answered alike; another call is a conflict."""
    task_id = await bench.submit()
    digits = id_to_hex(task_id)
    call = ("cancel", [bench.keys.meta, bench.keys.task(digits)], [digits, "token-1", "", 0])
    assert await bench.broker.scripts.call(*call) == b""
    before = await bench.snapshot()
    assert await bench.broker.scripts.call(*call) == b""
    assert changes(before, await bench.snapshot()) == {}
    with pytest.raises(StateConflictError):
        await bench.broker.cancel(task_id)


async def test_race_with_fetch(bench: Bench) -> None:
    """Whichever comes first wins: cancelled and never run, or running and a conflict."""
    await bench.join()
    first, second = await bench.submit(), await bench.submit()
    await bench.broker.cancel(first)
    [delivery] = (await bench.fetch(5)).deliveries
    assert task_id_of(delivery) == second
    with pytest.raises(StateConflictError, match="is running"):
        await bench.broker.cancel(second)
