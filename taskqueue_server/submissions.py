"""From the body of ``create_task`` to a ``NewTask``: the rules that no schema can say."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec

from taskqueue_core.codec import parse_time
from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.models import DEFAULT_QUEUE, NewTask, Priority
from taskqueue_server.messages import Request

#: How far ahead a task may be scheduled.
LONGEST_DELAY: Final = timedelta(days=365)

_NULL: Final = b"null"


class _Envelope(msgspec.Struct):
    """The parts of a submission that are kept as the bytes that were sent."""

    payload: msgspec.Raw = msgspec.Raw(_NULL)
    metadata: msgspec.Raw = msgspec.Raw(_NULL)


_envelope = msgspec.json.Decoder(_Envelope)


def parse_submission(request: Request, task_id: str, now_ms: int) -> NewTask:
    """Return the task that a validated request asks for.

    Without a queue in the request the task is for the default queue; ``names_queue`` tells.

    Raises:
        InvalidTaskError: ``scheduled_at`` is out of range.
    """
    assert request.body is not None
    fields = request.fields
    parts = _envelope.decode(request.body.raw)
    return NewTask(
        id=task_id,
        type=fields["type"],
        payload=_slice(parts.payload) or b"{}",
        metadata=_slice(parts.metadata),
        priority=Priority(fields.get("priority", Priority.NORMAL)),
        queue=fields.get("queue", DEFAULT_QUEUE),
        max_retries=fields.get("max_retries"),
        timeout_seconds=fields.get("timeout"),
        scheduled_at_ms=_parse_schedule(fields.get("scheduled_at"), now_ms),
    )


def _slice(raw: msgspec.Raw) -> bytes:
    part = bytes(raw)
    return b"" if part == _NULL else part


def _parse_schedule(text: str | None, now_ms: int) -> int | None:
    if text is None:
        return None
    try:
        scheduled_ms = parse_time(text)
    except ValueError as error:
        raise InvalidTaskError("scheduled_at", str(error)) from None
    if scheduled_ms > now_ms + LONGEST_DELAY / timedelta(milliseconds=1):
        raise InvalidTaskError("scheduled_at", f"must be within {LONGEST_DELAY.days} days from now")
    return scheduled_ms
