"""The table of the life cycle has no hole and no contradiction."""

from __future__ import annotations

import pytest

from taskqueue_core.states import (
    CANCELLABLE,
    PLACES,
    RETRYABLE,
    TERMINAL,
    TRANSITIONS,
    Place,
    TaskState,
)

#: What people and the clean-up may do to a task at its end; nothing else may touch it.
_AFTER_THE_END = {"retry", "redrive", "clear", "retain"}


def sources(script: str) -> set[TaskState]:
    return {before for name, before in TRANSITIONS if name == script and before is not None}


def test_states_are_spelled_as_clients_know_them() -> None:
    assert {str(state) for state in TaskState} == {
        *["pending", "scheduled", "running", "retrying"],
        *["completed", "cancelled", "failed", "dead_letter"],
    }


def test_every_state_has_one_place_and_every_place_a_state() -> None:
    assert set(PLACES) == set(TaskState)
    assert set(PLACES.values()) == set(Place)


@pytest.mark.parametrize("state", TaskState)
def test_every_state_can_be_reached(state: TaskState) -> None:
    reached: set[TaskState | None] = {None}
    for _ in TaskState:
        for (_script, before), after in TRANSITIONS.items():
            if before in reached:
                reached |= after
    assert state in reached


@pytest.mark.parametrize("state", TaskState)
def test_every_state_has_a_way_out(state: TaskState) -> None:
    ways = [after for (_script, before), after in TRANSITIONS.items() if before is state]
    assert any(after != {state} for after in ways)


def test_only_submit_makes_tasks_and_only_retain_deletes_them() -> None:
    makers = {script for script, before in TRANSITIONS if before is None}
    deleters = {script for (script, _), after in TRANSITIONS.items() if None in after}
    assert makers == {"submit"}
    assert deleters == {"retain"}


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_finished_task_is_left_alone_until_somebody_asks(state: TaskState) -> None:
    scripts = {script for script, before in TRANSITIONS if before is state}
    assert "retain" in scripts
    assert scripts <= _AFTER_THE_END


def test_unfinished_tasks_are_never_deleted() -> None:
    assert sources("retain") == set(TERMINAL)


def test_what_may_be_cancelled_and_retried_agrees_with_the_scripts() -> None:
    assert sources("cancel") == {*CANCELLABLE, TaskState.RUNNING}
    assert TRANSITIONS["cancel", TaskState.RUNNING] == {TaskState.RUNNING}
    assert sources("retry") == set(RETRYABLE)
    assert RETRYABLE < TERMINAL
    assert not CANCELLABLE & TERMINAL


def test_a_completed_task_stays_completed() -> None:
    ways = {
        script: after for (script, before), after in TRANSITIONS.items() if before == "completed"
    }
    assert ways == {"retain": frozenset({None})}


def test_only_the_owner_of_a_task_ends_a_running_one() -> None:
    """A running task is in a worker's hands; nobody else may finish it."""
    ends = {
        script: after & TERMINAL
        for (script, before), after in TRANSITIONS.items()
        if before is TaskState.RUNNING and after & TERMINAL
    }
    cancelled = {TaskState.CANCELLED}
    own = {script for script, after in ends.items() if after - cancelled}
    assert own == {"complete", "fail", "hold", "recover"}
    # Whoever would let it run again cancels it instead when its worker was asked to stop it.
    again = {script for script, after in ends.items() if after & cancelled}
    assert again == {"fail", "hold", "recover", "release", "heartbeat", "repair"}
