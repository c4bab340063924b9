"""Waiting for something to become true, with a deadline instead of a guess."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], object], what: str, *, within_seconds: float = 5.0) -> None:
    """Return once ``condition`` holds; fail, naming ``what``, when it does not in time."""
    end = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < end, f"not within {within_seconds} s: {what}"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie that nobody has reaped yet."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone between the two looks, or a system without /proc
        return not Path("/proc/self").exists()
    return state != "Z"
