"""Operations of the tag ``queues``."""

from __future__ import annotations

from taskqueue_core.models import Priority
from taskqueue_server.admin_log import note_action
from taskqueue_server.messages import Request, Response
from taskqueue_server.representations import queue_stats_json, to_json
from taskqueue_server.services import Services


class QueueOperations:
    """Read, pause, resume and purge the priority queues."""

    def __init__(self, services: Services) -> None:
        self._broker = services.broker

    async def get_queue_stats(self, request: Request) -> Response:
        """Answer with the depths of all priorities."""
        return await self.list_queues(request)

    async def list_queues(self, _request: Request) -> Response:
        """Answer with the depths of all priorities."""
        return Response(body=to_json(queue_stats_json(await self._broker.inspection.queue_stats())))

    async def purge_queue(self, request: Request) -> Response:
        """Cancel the waiting tasks of a priority."""
        name = request.path["priority"]
        count = await self._broker.purge(Priority[name.upper()])
        note_action(request, "purge_queue", count=count, priority=name)
        body = {"message": "queue purged", "priority": name, "purged_count": count}
        return Response(body=to_json(body))

    async def pause_queue(self, request: Request) -> Response:
        """Have no task of a priority start until it is resumed."""
        name = request.path["priority"]
        await self._broker.priorities.pause(Priority[name.upper()])
        return Response(body=to_json({"message": "queue paused", "priority": name}))

    async def resume_queue(self, request: Request) -> Response:
        """Let tasks of a paused priority start again."""
        name = request.path["priority"]
        await self._broker.priorities.resume(Priority[name.upper()])
        return Response(body=to_json({"message": "queue resumed", "priority": name}))
