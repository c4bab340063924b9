"""When a request is sent again: decisions without effects."""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue_client.errors import (
    ApiError,
    RateLimitedError,
    TaskQueueError,
    UnavailableError,
    UnreachableError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a request is sent at most, and how long is waited in between.

    The pause doubles from ``initial_seconds`` to ``max_seconds``, and half of it is left to
    chance. It is never shorter than the server's Retry-After; one of more than
    ``max_retry_after_seconds`` is not waited for.
    """

    attempts: int = 6
    initial_seconds: float = 0.1
    max_seconds: float = 5.0
    max_retry_after_seconds: float = 60.0

    def backoff_seconds(self, failures: int, chance: float) -> float:
        """Return the pause after so many failures; ``chance`` is from 0 up to 1."""
        longest = min(self.max_seconds, self.initial_seconds * 2.0 ** min(failures - 1, 32))
        return longest * (1 - chance / 2)

    def pause_seconds(
        self, failure: TaskQueueError, failures: int, *, is_repeatable: bool, chance: float
    ) -> float | None:
        """Return how long to wait before the request is sent again, ``None`` when it is not.

        One that is not ``is_repeatable`` is sent again only if it was certainly not carried out.
        """
        if failures >= self.attempts or not may_pass(failure, is_repeatable=is_repeatable):
            return None
        pause = self.backoff_seconds(failures, chance)
        wanted = failure.retry_after if isinstance(failure, ApiError) else None
        if wanted is None:
            return pause
        # Clients that are told the same second do not all come at the same moment.
        return wanted + pause if wanted <= self.max_retry_after_seconds else None


def may_pass(failure: Exception, *, is_repeatable: bool = True) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(failure, RateLimitedError):
        return True
    if isinstance(failure, UnreachableError):
        return is_repeatable or failure.is_unsent
    # The server may have carried out what it could not confirm.
    return is_repeatable and isinstance(failure, UnavailableError)
