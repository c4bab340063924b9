"""The end of background tasks, which one cancellation does not always bring about.

Python 3.11's ``asyncio.wait_for`` loses a cancellation that comes in the same loop turn as its
result, and the Redis client waits for every send with it. Newer versions do not.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.05


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks again and again until all have ended; their own errors are dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()
