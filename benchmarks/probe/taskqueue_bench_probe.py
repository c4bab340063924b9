"""A handler that tells when it was started, by a clock that all processes of a machine share."""

from __future__ import annotations

import time
from typing import Any

from taskqueue_core.plugin import TaskContext, handler

__all__ = ["probe"]


@handler("probe")
async def probe(ctx: TaskContext, payload: dict[str, Any]) -> int:
    """Return the monotonic time in nanoseconds."""
    return time.monotonic_ns()
