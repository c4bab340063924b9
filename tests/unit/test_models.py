"""The rules of the plain values."""

from __future__ import annotations

import msgspec
import pytest

from taskqueue_core.models import (
    NAME_PATTERN,
    DeadLetter,
    HandlerInfo,
    LeaseStatus,
    NewTask,
    OutcomeKind,
    OutcomeStatus,
    Priority,
    Task,
    is_name,
)
from taskqueue_core.states import TaskState


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", True),
        ("Email.send_v2-x", True),
        ("a" * 64, True),
        ("", False),
        ("a" * 65, False),
        ("1a", False),
        ("_a", False),
        ("a b", False),
        ("a:b", False),
        ("a{b}", False),
        ("a\n", False),
        ("é", False),
        ("a*", False),
    ],
)
def test_a_name_is_safe_inside_a_key(text: str, *, expected: bool) -> None:
    assert is_name(text) is expected


def test_the_published_pattern_is_the_rule_itself() -> None:
    assert NAME_PATTERN == "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"


@pytest.mark.parametrize(
    ("number", "label"), [(0, "low"), (1, "normal"), (2, "high"), (3, "critical")]
)
def test_a_priority_is_a_number_with_a_label(number: int, label: str) -> None:
    assert Priority(number).label == label


def test_there_are_four_priorities() -> None:
    assert len(Priority) == 4


def test_a_new_task_has_normal_priority_and_leaves_the_rest_open() -> None:
    task = NewTask(id="x", type="echo")
    assert (task.priority, task.queue, task.payload) == (Priority.NORMAL, "default", b"{}")
    assert task.max_retries is task.timeout_seconds is task.scheduled_at_ms is None


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        NewTask(id="x", type="echo").type = "sleep"  # type: ignore[misc]


def test_a_death_is_named_by_its_time_and_delivery() -> None:
    task = Task(
        id="x",
        type="echo",
        queue="default",
        priority=Priority.LOW,
        state=TaskState.DEAD_LETTER,
        created_at_ms=1,
        updated_at_ms=2,
        deliveries=4,
    )
    assert DeadLetter(task=task, added_at_ms=1700).message_id == "1700-4"


def test_the_numbers_of_the_scripts_stay() -> None:
    """Workers of two versions and the scripts have to agree on them."""
    assert {kind.name: kind.value for kind in OutcomeKind} == {
        "COMPLETE": 1,
        "FAIL": 2,
        "RELEASE": 3,
        "HOLD": 4,
    }
    assert {s.name: s.value for s in OutcomeStatus} == {"ACCEPTED": 1, "ALREADY": 2, "STALE": 0}
    assert {s.name: s.value for s in LeaseStatus} == {"HELD": 1, "LOST": 0, "CANCEL_REQUESTED": 2}


def test_a_published_handler_keeps_its_defaults_to_itself() -> None:
    info = HandlerInfo(timeout_seconds=30)
    encoded = msgspec.json.encode(info)
    assert encoded == b'{"timeout_seconds":30}'
    assert msgspec.json.decode(encoded, type=HandlerInfo) == info
