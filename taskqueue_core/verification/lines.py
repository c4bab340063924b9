"""The log lines that the processes of a run wrote, as far as the oracle wants to know them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from taskqueue_core.verification.fleet import Life

#: What a process says once it can work.
_READY: Final = frozenset({"worker started", "serving"})
#: What a process says once, because it starts or stops.
_ONCE: Final = _READY | {"using broker", "finishing tasks", "worker stopped"}


def read(lives: Iterable[Life]) -> dict[str, list[float]]:
    """Return the times of each process's lines, in seconds; those of starts and stops left out."""
    return {
        life.name: sorted(at for at, event in _said(life) if event not in _ONCE) for life in lives
    }


def ready(lives: Iterable[Life]) -> dict[str, float]:
    """Return when each process could work, by ``time.monotonic``, as far as it came to that."""
    ahead = time.time() - time.monotonic()
    return {life.name: at - ahead for life in lives for at, event in _said(life) if event in _READY}


def _said(life: Life) -> Iterable[tuple[float, str]]:
    """Yield the time and the event of each line."""
    for line in life.log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
            at = datetime.fromisoformat(said["timestamp"]).timestamp()
            event = str(said["event"])
        except (ValueError, KeyError, TypeError):
            # No line of ours: a traceback of the interpreter, for example. It counts.
            yield 0.0, ""
            continue
        yield at, event
