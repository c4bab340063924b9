"""Operations of the tag ``dead_letters``."""

from __future__ import annotations

from taskqueue_server.messages import Request, Response
from taskqueue_server.operations.tasks import represent_task
from taskqueue_server.representations import dead_letter_json, to_json
from taskqueue_server.services import Services


class DeadLetterOperations:
    """Read, retry and clear the dead letters."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._broker = services.broker

    async def list_dead_letters(self, _request: Request) -> Response:
        """Answer with the newest dead letters and the number of all."""
        letters = await self._broker.inspection.dead_letters()
        size = (await self._broker.inspection.queue_stats()).dead_letter_count
        entries = [
            dead_letter_json(letter, await represent_task(self._services, letter.task))
            for letter in letters
        ]
        return Response(body=to_json({"entries": entries, "size": size}))

    async def retry_dead_letters(self, request: Request) -> Response:
        """Send one dead letter, or all of them, back to their queues."""
        fields = request.fields
        if "retry_all" in fields:
            count = await self._broker.redrive()
            return Response(body=to_json({"message": "tasks re-queued", "retried_count": count}))
        task_id = fields["task_id"].lower()
        await self._broker.retry(task_id, only_dead=True, message_id=fields.get("message_id"))
        return Response(body=to_json({"message": "task re-queued", "task_id": task_id}))

    async def clear_dead_letters(self, _request: Request) -> Response:
        """Give all dead letters up."""
        count = await self._broker.clear()
        return Response(body=to_json({"message": "DLQ cleared", "cleared_count": count}))
