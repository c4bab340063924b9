"""When a worker process is replaced: handlers that do not stop, a least age, no second thoughts."""

from __future__ import annotations

import asyncio

import pytest
from crew import eventually
from structlog.testing import capture_logs

from taskqueue_core.settings import Settings
from taskqueue_core.worker import process, recycling
from taskqueue_core.worker.recycling import Recycling

pytestmark = pytest.mark.anyio


class Decision:
    """A recycling, how many handlers are stuck, and how often it has told the worker to stop."""

    def __init__(self) -> None:
        self.stuck = 1
        self.drained = 0
        self.recycling = Recycling("w1", drain=self._drain, count_stuck=lambda: self.stuck)

    def _drain(self) -> None:
        self.drained += 1


@pytest.fixture
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycling, "LEAST_AGE_SECONDS", 0.1)


@pytest.mark.usefixtures("_quickly")
async def test_it_is_decided_once_for_all_that_is_stuck() -> None:
    """The log line names the tasks; the worker is told to stop once."""
    one = Decision()
    one.stuck = 2
    with capture_logs() as lines:
        one.recycling.stuck("a")
        one.recycling.stuck("b")
        assert (one.recycling.is_due, one.drained) == (False, 0)
        await eventually(lambda: one.recycling.is_due, "the decision")
    assert [(line["task_ids"], line["stuck"]) for line in lines] == [(["a", "b"], 2)]
    assert one.drained == 1


async def test_a_young_process_is_not_replaced() -> None:
    """A handler that always hangs leaves the others a minute each time."""
    one = Decision()
    one.recycling.stuck("a")
    await asyncio.sleep(0.05)
    assert not one.recycling.is_due


@pytest.mark.usefixtures("_quickly")
async def test_what_ends_meanwhile_is_no_reason() -> None:
    """The handler was slow, not stuck; the next one that is counts again."""
    one = Decision()
    one.recycling.stuck("a")
    one.stuck = 0
    await asyncio.sleep(0.15)
    assert not one.recycling.is_due
    one.stuck = 1
    with capture_logs() as lines:
        one.recycling.stuck("b")
        await eventually(lambda: one.recycling.is_due, "the decision")
    assert lines[0]["task_ids"] == ["b"]


@pytest.mark.usefixtures("_quickly")
async def test_a_worker_that_stops_for_good_is_not_replaced() -> None:
    """Whether it was about to be or not; it is asked which of them holds."""
    late, early = Decision(), Decision()
    assert not late.recycling.call_off()
    late.recycling.stuck("a")
    with capture_logs():
        early.recycling.stuck("a")
        await eventually(lambda: early.recycling.is_due, "the decision")
    assert early.recycling.call_off()
    assert not early.recycling.call_off()
    assert (late.recycling.is_due, early.recycling.is_due, late.drained) == (False, False, 0)


def test_a_worker_that_cannot_start_again_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the code that asks for a new one, instead of living on without taking tasks."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(process, "COMMAND", ("/nonexistent/python",))
    monkeypatch.setattr(process, "_exit_now", leave)
    with capture_logs() as lines, pytest.raises(SystemExit) as ending:
        process._replace(Settings())
    assert ending.value.code == process.SPENT == 4
    assert lines[-1]["event"] == "cannot start again"
