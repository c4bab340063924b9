"""Operations of the tag ``workers``."""

from __future__ import annotations

from taskqueue_core.errors import NotFoundError
from taskqueue_core.models import is_name
from taskqueue_server.messages import Request, Response
from taskqueue_server.representations import to_json, worker_detail_json, worker_list_json
from taskqueue_server.services import Services


def _worker_id(request: Request) -> str:
    """Return the worker named in the path; nothing else than a name may reach a key."""
    worker_id = request.path["worker_id"]
    if not is_name(worker_id):
        raise NotFoundError("worker", worker_id)
    return worker_id


class WorkerOperations:
    """Read, pause and resume live workers."""

    def __init__(self, services: Services) -> None:
        self._broker = services.broker

    async def list_workers(self, _request: Request) -> Response:
        """Answer with the live workers."""
        return Response(body=to_json(worker_list_json(await self._broker.inspection.workers())))

    async def get_worker(self, request: Request) -> Response:
        """Answer with one live worker, its handlers and what it runs."""
        worker_id = _worker_id(request)
        worker = await self._broker.inspection.worker(worker_id)
        running = await self._broker.inspection.running(worker_id)
        return Response(body=to_json(worker_detail_json(worker, running)))

    async def pause_worker(self, request: Request) -> Response:
        """Stop a worker from taking new tasks."""
        worker_id = _worker_id(request)
        await self._broker.pause(worker_id)
        return Response(body=to_json({"message": "worker paused", "worker_id": worker_id}))

    async def resume_worker(self, request: Request) -> Response:
        """Let a worker take tasks again."""
        worker_id = _worker_id(request)
        await self._broker.resume(worker_id)
        return Response(body=to_json({"message": "worker resumed", "worker_id": worker_id}))
