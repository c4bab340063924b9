"""What a handler raises to steer its task. None of these is logged as a crash.

TaskControl
├── RetryTask            try again, after a delay the handler knows best
├── DropTask             give up quietly: the task ends as failed, not as a dead letter
├── NonRetryable         trying again cannot help: a dead letter at once
│   └── InvalidPayload   the payload is not what the handler's annotation says
└── TaskCancelled        a thread handler found its task cancelled and stopped

Any other exception is a failed attempt, retried as the handler's policy says.
"""

from __future__ import annotations

import math


class TaskControl(Exception):  # noqa: N818 - a handler raises these as instructions
    """Raised when a handler wants something other than success or an ordinary failure."""


class RetryTask(TaskControl):
    """Raised when the attempt should be repeated later.

    ``delay`` is in seconds, ``None`` leaves it to the retry policy. The attempt counts: a task
    out of retries becomes a dead letter, with ``reason`` as its error.
    """

    def __init__(self, delay: float | None = None, reason: str = "") -> None:
        if delay is not None and not 0 <= delay < math.inf:
            raise ValueError(f"delay must be a number of seconds >= 0, got {delay}")
        super().__init__(reason or "the handler asked for a retry")
        self.delay = delay
        self.reason = reason


class DropTask(TaskControl):
    """Raised when the task has become pointless: it ends as failed, without a dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NonRetryable(TaskControl):
    """Raised when no later attempt can succeed: the task becomes a dead letter at once."""


class InvalidPayload(NonRetryable):
    """Raised when the payload breaks the handler's annotation; ``problem`` names the field."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"invalid payload: {problem}")
        self.problem = problem


class TaskCancelled(TaskControl):
    """Raised when ``TaskContext.raise_if_cancelled`` finds the task cancelled."""
