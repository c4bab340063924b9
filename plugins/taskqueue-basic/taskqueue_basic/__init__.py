"""The task types echo, sleep, compute and fail: for trying out, tests and load."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from taskqueue_core.plugin import InvalidPayload, TaskContext, handler

__all__ = ["compute", "echo", "fail", "sleep"]

TASKQUEUE_API = (1, 0)

_DAY_SECONDS = 86_400
_CHUNK = 50_000


class SleepPayload(msgspec.Struct, frozen=True):
    """How long to sleep: ``duration`` in milliseconds or ``duration_seconds``, not both."""

    duration: Annotated[float, msgspec.Meta(ge=0, le=_DAY_SECONDS * 1000)] | None = None
    duration_seconds: Annotated[float, msgspec.Meta(ge=0, le=_DAY_SECONDS)] | None = None

    def seconds(self) -> float:
        """Return the duration, one second when none was given."""
        if self.duration is not None:
            return self.duration / 1000
        return 1.0 if self.duration_seconds is None else self.duration_seconds


class ComputePayload(msgspec.Struct, frozen=True):
    """How many numbers to add; the limit keeps one task well below a minute of one core."""

    iterations: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 1_000_000


class FailPayload(msgspec.Struct, frozen=True):
    """What to fail with."""

    message: str = "intentional failure for testing"


@handler("echo")
async def echo(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Give the payload back."""
    return {"echoed": payload, "processed_at": _now()}


@handler("sleep")
async def sleep(ctx: TaskContext, payload: SleepPayload) -> dict[str, str]:
    """Wait, without holding a thread; cancellation and timeout end the wait at once."""
    if payload.duration is not None and payload.duration_seconds is not None:
        raise InvalidPayload("give duration (ms) or duration_seconds, not both")
    seconds = payload.seconds()
    await asyncio.sleep(seconds)
    return {"slept_for": _duration(seconds), "completed_at": _now()}


@handler("compute")
def compute(ctx: TaskContext, payload: ComputePayload) -> dict[str, int]:
    """Add 0..n-1 one by one: work for a core that can be cancelled between two chunks."""
    total = 0
    for start in range(0, payload.iterations, _CHUNK):
        ctx.raise_if_cancelled()
        total += sum(range(start, min(start + _CHUNK, payload.iterations)))
        # Offer the interpreter lock: with two of these running, a turn of the event loop waits
        # 0.5 ms for it, and 15 ms without this line.
        time.sleep(0)
    return {"iterations": payload.iterations, "result": total}


@handler("fail")
async def fail(ctx: TaskContext, payload: FailPayload) -> None:
    """Fail, always: the attempt is retried as any other that failed."""
    raise Exception(payload.message)  # noqa: TRY002 (a plain one: its text is the whole error)


def _now() -> str:
    """Return the time as RFC 3339 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _duration(seconds: float) -> str:
    """Write a duration in seconds, to the millisecond, without trailing zeros."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
