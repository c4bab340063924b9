"""The log lines that the processes of a run wrote, as far as the oracle wants to know them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from taskqueue_core.verification.fleet import Life

#: What a process says once, because it starts or stops.
_ONCE: Final = frozenset(
    {"using broker", "worker started", "finishing tasks", "worker stopped", "serving"}
)


def read(lives: Iterable[Life]) -> dict[str, list[float]]:
    """Return the times of each process's lines, in seconds; those of starts and stops left out."""
    return {life.name: sorted(_times(life)) for life in lives}


def _times(life: Life) -> Iterable[float]:
    for line in life.log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
            at = datetime.fromisoformat(said["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError):
            # No line of ours: a traceback of the interpreter, for example. It counts.
            yield 0.0
            continue
        if said["event"] not in _ONCE:
            yield at
