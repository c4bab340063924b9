"""When a failed attempt is tried again: a pure decision, without clocks or I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how late a failed task runs again.

    ``max_retries`` N means up to N + 1 executions, 0 means one. The n-th retry waits
    ``min(initial_seconds * factor ** (n - 1), max_seconds)``, moved by up to ``jitter`` of it
    either way. ``None`` for ``max_retries`` leaves the number to the service's settings.
    """

    max_retries: int | None = None
    initial_seconds: float = 1.0
    max_seconds: float = 300.0
    factor: float = 2.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.max_retries is not None and self.max_retries < 0:
            raise ValueError(f"max_retries must be >= 0, got {self.max_retries}")
        if self.initial_seconds < 0 or self.max_seconds < 0:
            raise ValueError("initial_seconds and max_seconds must be >= 0")
        if self.factor < 1:
            raise ValueError(f"factor must be >= 1, got {self.factor}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, got {self.jitter}")

    def delay_seconds(self, attempt: int, rng: random.Random) -> float:
        """Return the wait before the retry that follows failed attempt number ``attempt`` (>= 1).

        The exponent is capped before the power is taken: 2.0 ** 1024 overflows a float.
        """
        exponent = min(attempt - 1, 64)
        delay = min(self.initial_seconds * self.factor**exponent, self.max_seconds)
        return max(0.0, delay * (1 + rng.uniform(-self.jitter, self.jitter)))
