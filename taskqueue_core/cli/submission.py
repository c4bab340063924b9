"""From the flags of ``taskqueue submit`` to the body of the request.

Only what a flag writes in another way than JSON is checked here; the rules are the server's.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import typer

_PRIORITIES: Final = ("low", "normal", "high", "critical")


def parse_priority(text: str) -> int:
    """Return the number of a priority given by name or number."""
    if text in {"0", "1", "2", "3"}:
        return int(text)
    if text.lower() not in _PRIORITIES:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(_PRIORITIES)} or 0..3")
    return _PRIORITIES.index(text.lower())


def parse_metadata(pairs: Sequence[str]) -> dict[str, str] | None:
    """Return ``KEY=VALUE`` pairs as an object, ``None`` when there are none."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in metadata:
            problem = "is there twice" if equals else "should be KEY=VALUE"
            raise typer.BadParameter(f"{pair!r} {problem}", param_hint="'--metadata'")
        metadata[key] = value
    return metadata or None


def scheduled_at(at: str | None, delay: str | None) -> str | None:
    """Return the time to run at, by this machine's clock for a delay; ``None`` means at once."""
    if delay is None:
        return at
    if at is not None:
        raise typer.BadParameter("give --at or --in, not both", param_hint="'--in'")
    from taskqueue_core.codec import format_time
    from taskqueue_core.settings import parse_duration

    try:
        return format_time(time.time_ns() // 1_000_000 + math.ceil(parse_duration(delay) * 1000))
    except (ValueError, OverflowError) as error:
        problem = str(error) if isinstance(error, ValueError) else "that is too far away"
        raise typer.BadParameter(problem, param_hint="'--in'") from error


def read_payload(source: str | None) -> str:
    """Return the JSON text of the payload: the text itself, ``@FILE`` or ``-`` for stdin."""
    if source is None:
        return "{}"
    try:
        if source == "-":
            text = sys.stdin.buffer.read().decode()
        elif source.startswith("@"):
            text = Path(source[1:]).read_bytes().decode()
        else:
            text = source
        value = json.loads(text)
    except OSError as error:
        problem = f"{source[1:]} cannot be read: {error.strerror}"
        raise typer.BadParameter(problem, param_hint="'--payload'") from error
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"no JSON: {error}", param_hint="'--payload'") from error
    if not isinstance(value, dict):
        raise typer.BadParameter("should be a JSON object", param_hint="'--payload'")
    return text


def encode(fields: Mapping[str, object], payload: str) -> bytes:
    """Return the body of the request: the fields that are given, and the payload as it is.

    The payload is not written anew: it reaches the handler exactly as the user wrote it.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    return f'{json.dumps(given)[:-1]}, "payload": {payload}}}'.encode()
