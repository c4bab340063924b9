"""Whether this worker is paused: the broker's word, in the order in which it was given.

Answers to fetches and heartbeats and control messages come over connections of their own and
overtake each other. Each is worth as much as the moment at which it was asked for is late.
"""

from __future__ import annotations

import math
from collections.abc import Callable


class Pause:
    """The last word of the broker; ``on_change`` is called with True for paused.

    ``clock`` gives seconds and never goes back, as ``time.monotonic``.
    """

    def __init__(self, on_change: Callable[[bool], None], clock: Callable[[], float]) -> None:
        self.is_on = False
        self._on_change = on_change
        self._clock = clock
        self._known_at = -math.inf

    def saw(self, *, is_on: bool, asked_at: float) -> None:
        """Take a word that is at least as young as ``asked_at``; an older one is passed over."""
        if asked_at < self._known_at:
            return
        self._known_at = self._clock()
        if is_on != self.is_on:
            self.is_on = is_on
            self._on_change(is_on)

    def heard(self, *, is_on: bool) -> None:
        """Take a control message: these come in order, and at once."""
        self.saw(is_on=is_on, asked_at=self._clock())
