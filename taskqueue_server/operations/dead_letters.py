"""Operations of the tag ``dead_letters``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskqueue_core.broker import DeadLetterFilter
from taskqueue_core.errors import NotFoundError
from taskqueue_server.admin_log import note_action
from taskqueue_server.messages import Request, Response
from taskqueue_server.operations.tasks import represent_task
from taskqueue_server.representations import (
    Json,
    dead_letter_group_json,
    dead_letter_json,
    to_json,
)
from taskqueue_server.services import Services
from taskqueue_server.submissions import payload_of

_DEFAULT_LIMIT: Final = 100


class DeadLetterOperations:
    """Read, count, retry and clear the dead letters."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._broker = services.broker

    async def list_dead_letters(self, request: Request) -> Response:
        """Answer with a page of the dead letters that fit, newest first, and the number of all."""
        page = await self._broker.dead_letters.page(
            _parse_filter(request.query),
            limit=request.query.get("limit", _DEFAULT_LIMIT),
            cursor=request.query.get("cursor"),
        )
        entries = [
            dead_letter_json(letter, await represent_task(self._services, letter.task))
            for letter in page.letters
        ]
        body: Json = {"entries": entries, "size": await self._size()}
        if page.cursor is not None:
            body["next_cursor"] = page.cursor
        return Response(body=to_json(body))

    async def list_dead_letter_groups(self, request: Request) -> Response:
        """Answer with the numbers of dead letters by type, reason and error."""
        found = await self._broker.dead_letters.groups(_parse_filter(request.query))
        items = [dead_letter_group_json(group) for group in found.groups]
        body = {"items": items, "counted": found.counted, "size": await self._size()}
        return Response(body=to_json(body))

    async def retry_dead_letters(self, request: Request) -> Response:
        """Send one dead letter, those that fit a filter, or all of them back to their queues."""
        fields = request.fields
        if "task_id" in fields:
            return await self._retry_one(request)
        wanted = _parse_filter(fields.get("filter", {}))
        if fields.get("dry_run"):
            count = await self._broker.dead_letters.count(wanted)
            body = {"message": "dry run: nothing was changed", "retried_count": 0}
            return Response(body=to_json(body | {"matched_count": count}))
        count = await self._broker.redrive(wanted)
        note_action(request, "retry_dead_letters", count=count)
        return Response(body=to_json({"message": "tasks re-queued", "retried_count": count}))

    async def _retry_one(self, request: Request) -> Response:
        fields = request.fields
        task_id = fields["task_id"].lower()
        payload = b""
        if "payload" in fields:
            payload = await self._checked_payload(request, task_id)
        await self._broker.retry(
            task_id, only_dead=True, message_id=fields.get("message_id"), payload=payload
        )
        note_action(request, "retry_dead_letters", count=1, task_id=task_id)
        return Response(body=to_json({"message": "task re-queued", "task_id": task_id}))

    async def _checked_payload(self, request: Request, task_id: str) -> bytes:
        """Return the payload to go on with, checked as that of a new task of this type."""
        payload = payload_of(request)
        try:
            task = await self._broker.inspection.get(task_id)
        except NotFoundError:
            raise NotFoundError("dead letter", task_id) from None
        catalog = self._services.catalog
        await catalog.check_payload(task.type, request.fields["payload"], len(payload))
        return payload

    async def clear_dead_letters(self, request: Request) -> Response:
        """Give all dead letters up."""
        count = await self._broker.clear()
        note_action(request, "clear_dead_letters", count=count)
        return Response(body=to_json({"message": "DLQ cleared", "cleared_count": count}))

    async def _size(self) -> int:
        return (await self._broker.inspection.queue_stats()).dead_letter_count


def _parse_filter(values: Mapping[str, Any]) -> DeadLetterFilter:
    names = ("type", "queue", "reason", "error")
    return DeadLetterFilter(**{name: values.get(name) or "" for name in names})
