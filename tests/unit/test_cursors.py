"""Places in the event stream, as the texts that clients hand back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_core.events import Cursor, Event, Position, gap_event, mark_of

MARKS = st.from_regex(r"[0-9a-f]{6}([0-9a-f]{4})?", fullmatch=True)
POSITIONS = st.one_of(st.just(Position()), st.builds(Position, st.integers(1, 10**16 - 1), MARKS))


@given(st.lists(POSITIONS, min_size=1, max_size=5))
def test_a_text_is_read_as_it_was_written(positions: list[Position]) -> None:
    assert Cursor.parse(str(Cursor(positions)), len(positions)).positions == positions


def test_a_text_is_short_where_there_is_one_partition() -> None:
    assert str(Cursor([Position(42, "0123456789")])) == "0123456789-42"


@pytest.mark.parametrize(
    "text",
    ["", "1", "-1", "0.", ".0", "0.0.0", "abcdef-0.0", "abcdef-01.0", "ABCDEF-1.0", "abcde-1.0",
     "abcdef1-1.0", "abcdef-1", "abcdef-1.x", "abcdef-99999999999999999.0", "abcdef-\u0661.0",
     "abcdef-1.0\n", " abcdef-1.0", "0" * 10_000],
)  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of an event"):
        Cursor.parse(text, 2)


def test_a_cursor_moves_with_each_event_in_its_partition_only() -> None:
    cursor = Cursor([Position(), Position(3, "abcdef")])
    before = cursor.copy()
    cursor.advance(Event(7, "task.started", 1, {}, 1, mark="abcdef0123"))
    assert (str(before), str(cursor)) == ("0.abcdef-3", "0.abcdef0123-7")
    cursor.advance(gap_event(0, 1, 7, "restarted", partition=1))
    assert str(cursor) == "0.0"


def test_marks_tell_histories_apart() -> None:
    assert mark_of(0x1_8765_4321) == "654321"
    assert len({mark_of(1, b"a"), mark_of(1, b"b"), mark_of(2, b"a"), mark_of(2, b"b")}) == 4
    assert mark_of(1, b"a").startswith(mark_of(1))
