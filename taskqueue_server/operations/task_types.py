"""Operations of the tag ``task_types``."""

from __future__ import annotations

from taskqueue_server.messages import Request, Response
from taskqueue_server.representations import task_type_json, to_json
from taskqueue_server.services import Services


class TaskTypeOperations:
    """Read what can be submitted."""

    def __init__(self, services: Services) -> None:
        self._catalog = services.catalog

    async def list_task_types(self, _request: Request) -> Response:
        """Answer with the task types that live workers handle."""
        items = [task_type_json(known) for known in await self._catalog.known_types()]
        return Response(body=to_json({"items": items}))
