"""From packed stream entries to the JSON clients read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from taskqueue_core.events import STATE_LETTERS, Event, unpack
from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import TaskState

ID = "01890a5d-ac96-774b-bcce-b302099a8007"
NOW = 1_705_320_000_007


def pack(*records: list[Any], now: int = NOW) -> bytes:
    return msgspec.msgpack.encode([now, *records])


def task_record(event: str, letter: str, attempts: int = 0, **more: Any) -> list[Any]:
    record = [event, id_to_hex(ID), "echo", 3, letter, attempts]
    return [*record, more] if more else record


def test_a_task_event_is_unpacked() -> None:
    assert unpack(41, pack(task_record("task.submitted", "p"))) == [
        Event(
            41,
            "task.submitted",
            NOW,
            {
                "task_id": ID,
                "type": "echo",
                "priority": "critical",
                "state": TaskState.PENDING,
                "attempts": 0,
            },
        )
    ]


def test_more_members_follow_the_fixed_ones_and_times_become_text() -> None:
    record = task_record("task.retrying", "y", 2, error="no", duration_ms=12, next_retry_at=NOW + 1)
    (event,) = unpack(1, pack(record))
    assert list(event.data) == [
        *["task_id", "type", "priority", "state", "attempts"],
        *["error", "duration_ms", "next_retry_at"],
    ]
    assert event.data["next_retry_at"] == "2024-01-15T12:00:00.008Z"
    assert (event.data["attempts"], event.data["duration_ms"]) == (2, 12)


def test_a_worker_event_is_unpacked() -> None:
    record = ["worker.joined", "w-1", {"state": "idle", "active_tasks": 0, "concurrency": 10}]
    (event,) = unpack(9, pack(record))
    assert event.type == "worker.joined"
    assert event.data == {
        "worker_id": "w-1",
        "state": "idle",
        "active_tasks": 0,
        "concurrency": 10,
    }


def test_a_priority_event_is_unpacked() -> None:
    (event,) = unpack(9, pack(["queue.paused", 2]))
    assert (event.type, event.data, event.task_id) == ("queue.paused", {"priority": "high"}, "")


def test_events_of_one_entry_are_numbered_up_to_its_last() -> None:
    records = [task_record("task.started", "r", 1), ["worker.left", "w-1", {}]]
    events = unpack(100, pack(*records, task_record("task.completed", "c", 1)))
    assert [(event.sequence, event.type) for event in events] == [
        (98, "task.started"),
        (99, "worker.left"),
        (100, "task.completed"),
    ]
    assert {event.timestamp_ms for event in events} == {NOW}


def test_an_entry_without_events_is_empty() -> None:
    assert unpack(5, pack()) == []


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_a_text_of_any_length_is_unpacked_whole(length: int) -> None:
    (event,) = unpack(1, pack(task_record("task.failed", "d", 1, error="x" * length)))
    assert event.data["error"] == "x" * length


@pytest.mark.parametrize(("letter", "state"), STATE_LETTERS.items())
def test_every_state_letter_is_understood(letter: str, state: TaskState) -> None:
    (event,) = unpack(1, pack(task_record("task.x", letter)))
    assert event.data["state"] is state


def test_every_state_has_one_letter() -> None:
    assert set(STATE_LETTERS.values()) == set(TaskState)
    assert len(STATE_LETTERS) == len(TaskState)


def test_an_event_is_one_json_object_for_clients() -> None:
    (event,) = unpack(1, pack(task_record("task.failed", "d", 4, error='é"\n')))
    frame = event.encode("1")
    assert b"\n" not in frame
    assert json.loads(frame) == {
        "type": "task.failed",
        "timestamp": "2024-01-15T12:00:00.007Z",
        "data": {
            "task_id": ID,
            "type": "echo",
            "priority": "critical",
            "state": "dead_letter",
            "attempts": 4,
            "error": 'é"\n',
        },
        "id": "1",
    }


@pytest.mark.parametrize("packed", [b"", b"\xc1", pack()[:-1], b"\x90"])
def test_a_broken_entry_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the text is msgspec's or Python's
        unpack(1, packed)
