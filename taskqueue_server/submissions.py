"""From a validated body to ``NewTask`` values: the rules that no schema can say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec

from taskqueue_core.broker import Broker, IdempotencyKey
from taskqueue_core.codec import parse_time
from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.models import NewTask, Priority
from taskqueue_server.catalog import HandlerCatalog
from taskqueue_server.messages import IDEMPOTENCY_KEY, Request
from taskqueue_server.problems import ProblemError

#: How far ahead a task may be scheduled.
LONGEST_DELAY: Final = timedelta(days=365)

_NULL: Final = b"null"


class _Envelope(msgspec.Struct):
    """The parts of a submission that are kept as the bytes that were sent."""

    payload: msgspec.Raw = msgspec.Raw(_NULL)
    metadata: msgspec.Raw = msgspec.Raw(_NULL)


class _Envelopes(msgspec.Struct):
    tasks: list[_Envelope]


_envelope = msgspec.json.Decoder(_Envelope)
_envelopes = msgspec.json.Decoder(_Envelopes)


class Submission(NamedTuple):
    """A task that is asked for, and the rule that it breaks, if it does.

    One with an idempotency key may have been accepted when the rule was another.
    """

    task: NewTask
    error: Exception | None


class Submissions:
    """Reads the tasks of requests and gives them their ids."""

    def __init__(self, broker: Broker, catalog: HandlerCatalog, now_ms: Callable[[], int]) -> None:
        self._broker = broker
        self._catalog = catalog
        self._now_ms = now_ms

    async def parse(self, request: Request) -> Submission:
        """Return the task that a request asks for."""
        assert request.body is not None
        parts = _envelope.decode(request.body.raw)
        task_id, key = self._broker.new_task_id(), self._key(request)
        found = await self._build(request.body.values, parts, task_id, request)
        return found if key is None else Submission(key.apply(found.task), found.error)

    async def parse_batch(self, request: Request) -> list[Submission]:
        """Return the tasks that a request asks for, in their order."""
        assert request.body is not None
        sent = request.body.values["tasks"]
        parts = _envelopes.decode(request.body.raw).tasks
        ids, key = self._broker.new_task_ids(len(sent)), self._key(request)
        found = [await self._build(*row, request) for row in zip(sent, parts, ids, strict=True)]
        if key is None:
            return found
        return [Submission(key.apply(one.task, at), one.error) for at, one in enumerate(found)]

    def _key(self, request: Request) -> IdempotencyKey | None:
        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is None or request.body is None:
            return None
        owner = request.principal.owner
        return self._broker.idempotency_key(key, request.body.raw, owner=owner)

    async def _build(
        self, fields: Mapping[str, Any], parts: _Envelope, task_id: str, request: Request
    ) -> Submission:
        """Return a task; ``null`` means that a field was not sent."""
        task_type, priority = fields["type"], fields.get("priority")
        payload = _slice(parts.payload) or b"{}"
        scheduled_ms: int | None = None
        error: Exception | None = None
        try:
            await self._catalog.check_payload(task_type, fields.get("payload") or {}, len(payload))
            scheduled_ms = self._parse_schedule(fields.get("scheduled_at"))
        except (InvalidTaskError, ProblemError) as found:
            error = found
        task = NewTask(
            id=task_id,
            type=task_type,
            payload=payload,
            metadata=_slice(parts.metadata),
            priority=Priority.NORMAL if priority is None else Priority(priority),
            queue=fields.get("queue") or await self._catalog.queue_of(task_type),
            max_retries=fields.get("max_retries"),
            timeout_seconds=fields.get("timeout"),
            scheduled_at_ms=scheduled_ms,
            owner=request.principal.owner,
            traceparent=request.traceparent,
        )
        return Submission(task, error)

    def _parse_schedule(self, text: str | None) -> int | None:
        if text is None:
            return None
        try:
            scheduled_ms = parse_time(text)
        except ValueError as error:
            raise InvalidTaskError("scheduled_at", str(error)) from None
        if scheduled_ms > self._now_ms() + LONGEST_DELAY / timedelta(milliseconds=1):
            rule = f"must be within {LONGEST_DELAY.days} days from now"
            raise InvalidTaskError("scheduled_at", rule)
        return scheduled_ms


def payload_of(request: Request) -> bytes:
    """Return the payload of a request as it was sent, empty when there is none."""
    assert request.body is not None
    return _slice(_envelope.decode(request.body.raw).payload)


def _slice(raw: msgspec.Raw) -> bytes:
    part = bytes(raw)
    return b"" if part == _NULL else part
