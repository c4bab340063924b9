"""Operations of the tag ``tasks``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from taskqueue_core.models import NewTask, Submitted, Task
from taskqueue_server.batches import Answer, refused_item, submit_batch
from taskqueue_server.messages import Headers, Request, Response
from taskqueue_server.representations import (
    Json,
    attempt_json,
    task_from_submission,
    task_json,
    to_json,
)
from taskqueue_server.services import Services
from taskqueue_server.submissions import Submissions
from taskqueue_server.waiting import ended_task

#: Of answers that a request had before.
_REPLAYED: Final[Headers] = ((b"idempotent-replayed", b"true"),)


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
        self._submissions = Submissions(services.broker, services.catalog, services.now_ms)

    async def create_task(self, request: Request) -> Response:
        """Store a task, or find it when the request is a repeat, and answer with it."""
        new, error = await self._submissions.parse(request)
        refusal = request.refusal or error
        if refusal is None:
            # The id is ours to change: nobody has seen it yet.
            submitted = await self._broker.submit(new, may_move=True)
        else:
            submitted = await self._find_repeat(new, refusal)
        location = (b"location", b"/api/v1/tasks/" + submitted.id.encode())
        return Response(
            body=to_json(await self._represent(new, submitted)),
            status=200 if submitted.is_repeat else 201,
            headers=(location, *(_REPLAYED if submitted.is_repeat else ())),
        )

    async def create_tasks(self, request: Request) -> Response:
        """Store many tasks and answer for each."""
        asked = await self._submissions.parse_batch(request)
        refusal = request.refusal or await request.charge(len(asked))
        answers = await submit_batch(self._broker, asked, refusal=refusal)
        pairs = zip(asked, answers, strict=True)
        items = [await self._item(one.task, answer) for one, answer in pairs]
        accepted = sum("task" in item for item in items)
        body = {
            "items": items,
            "accepted_count": accepted,
            "refused_count": len(items) - accepted,
        }
        is_repeat = all(item["status"] == 200 for item in items)
        return Response(body=to_json(body), headers=_REPLAYED if is_repeat else ())

    async def _item(self, new: NewTask, answer: Answer) -> Json:
        if isinstance(answer, Exception):
            return refused_item(answer)
        status = 200 if answer.is_repeat else 201
        return {"status": status, "task": await self._represent(new, answer)}

    async def _find_repeat(self, new: NewTask, refusal: Exception) -> Submitted:
        [repeat] = await self._broker.find_repeats([new]) if new.idempotency else [None]
        if repeat is None:
            raise refusal
        return repeat

    async def _represent(self, new: NewTask, submitted: Submitted) -> Json:
        return await represent_task(self._services, task_from_submission(new, submitted))

    async def get_task(self, request: Request) -> Response:
        """Answer with a task as it is now, or when it has ended."""
        task_id, owner = request.path["task_id"], request.principal.owner
        read = partial(self._broker.inspection.get, task_id, owner=owner)
        watch, seconds = self._services.hub.watching, request.query.get("wait", 0.0)
        task = await ended_task(watch, read, await read(), seconds)
        body = await represent_task(self._services, task)
        if task.is_waiting and not await self._services.catalog.has_worker(task.type, task.queue):
            body["no_worker"] = True
        return Response(body=to_json(body))

    async def cancel_task(self, request: Request) -> Response:
        """Cancel a task, or have its worker asked to stop it, and answer with it."""
        is_cancelled = await self._broker.cancel(
            request.path["task_id"],
            owner=request.principal.owner,
            running=request.query.get("running", False),
        )
        response = await self.get_task(request)
        return response if is_cancelled else replace(response, status=202)

    async def list_attempts(self, request: Request) -> Response:
        """Answer with the failed attempts of a task; who may everything sees where they failed."""
        caller = request.principal
        attempts = await self._broker.inspection.attempts(
            request.path["task_id"], owner=caller.owner
        )
        is_told_all = caller.may("admin")
        items = [attempt_json(attempt, has_traceback=is_told_all) for attempt in attempts]
        return Response(body=to_json({"items": items}))

    async def retry_task(self, request: Request) -> Response:
        """Send an ended task back to its queue."""
        task_id = request.path["task_id"].lower()
        await self._broker.retry(task_id)
        return Response(body=to_json({"message": "task re-queued", "task_id": task_id}))
