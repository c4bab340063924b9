"""Operations of the tag ``tasks``."""

from __future__ import annotations

from msgspec.structs import replace

from taskqueue_core.models import Task
from taskqueue_server.messages import Request, Response
from taskqueue_server.representations import Json, task_from_submission, task_json, to_json
from taskqueue_server.services import Services
from taskqueue_server.submissions import parse_submission


async def represent_task(services: Services, task: Task) -> Json:
    """Return a task with the limits of its handler where it names none."""
    retries, timeout = task.max_retries, task.timeout_seconds
    if retries is None:
        retries = await services.catalog.max_retries_of(task.type)
    if timeout is None:
        timeout = await services.catalog.timeout_of(task.type)
    return task_json(task, max_retries=retries, timeout=timeout)


class TaskOperations:
    """Submit, read, cancel and retry tasks."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._broker = services.broker

    async def create_task(self, request: Request) -> Response:
        """Store a task and answer with it."""
        new = parse_submission(request, self._broker.new_task_id(), self._services.now_ms())
        if "queue" not in request.fields:
            new = replace(new, queue=await self._services.catalog.queue_of(new.type))
        # The id is ours to change: nobody has seen it yet.
        submitted = await self._broker.submit(new, may_move=True)
        task = await represent_task(self._services, task_from_submission(new, submitted))
        location = (b"location", b"/api/v1/tasks/" + submitted.id.encode())
        return Response(body=to_json(task), status=201, headers=(location,))

    async def get_task(self, request: Request) -> Response:
        """Answer with a task as it is now."""
        task = await self._broker.inspection.get(request.path["task_id"])
        return Response(body=to_json(await represent_task(self._services, task)))

    async def cancel_task(self, request: Request) -> Response:
        """Cancel a task and answer with it."""
        await self._broker.cancel(request.path["task_id"])
        return await self.get_task(request)

    async def retry_task(self, request: Request) -> Response:
        """Send an ended task back to its queue."""
        task_id = request.path["task_id"].lower()
        await self._broker.retry(task_id)
        return Response(body=to_json({"message": "task re-queued", "task_id": task_id}))
