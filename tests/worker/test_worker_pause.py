"""Pause: of several words the youngest counts, whatever way they came."""

from __future__ import annotations

import pytest

from taskqueue_core.worker.pause import Pause


class Clock:
    """Time that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("words", "expected", "changes"),
    [
        # (received at, paused?, asked at or None for a control message)
        ([(1, True, None)], True, [True]),
        ([(1, True, None), (2, False, None)], False, [True, False]),
        # An answer that was under way when the message came knows nothing of it.
        ([(2, True, None), (3, False, 1)], True, [True]),
        ([(2, True, 0), (3, False, None), (4, True, 2.5)], False, [True, False]),
        # One that was asked for later does.
        ([(2, True, None), (4, False, 3)], False, [True, False]),
        ([(2, True, 1), (4, True, 3)], True, [True]),
        # Of two answers that overlap the first to arrive stands until the next.
        ([(3, True, 1), (4, False, 2), (6, False, 5)], False, [True, False]),
    ],
)
def test_the_youngest_word_counts(
    words: list[tuple[float, bool, float | None]], *, expected: bool, changes: list[bool]
) -> None:
    """Changes are told once each."""
    clock, told = Clock(), list[bool]()
    pause = Pause(told.append, clock)
    for received_at, is_on, asked_at in words:
        clock.now = received_at
        if asked_at is None:
            pause.heard(is_on=is_on)
        else:
            pause.saw(is_on=is_on, asked_at=asked_at)
    assert (pause.is_on, told) == (expected, changes)
