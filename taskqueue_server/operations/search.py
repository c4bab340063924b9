"""Operations of the tag ``search``."""

from __future__ import annotations

from typing import Any, Final

from taskqueue_core.broker import TaskQuery
from taskqueue_core.codec import parse_time
from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.models import Priority
from taskqueue_core.states import TaskState
from taskqueue_server.messages import Request, Response
from taskqueue_server.operations.tasks import represent_task
from taskqueue_server.representations import Json, to_json
from taskqueue_server.services import Services

_DEFAULT_LIMIT: Final = 50


class SearchOperations:
    """Find tasks by what they are."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._search = services.broker.search

    async def search_tasks(self, request: Request) -> Response:
        """Answer with a page of the tasks that fit all filters."""
        limit = request.query.get("limit", _DEFAULT_LIMIT)
        cursor = request.query.get("cursor")
        page = await self._search.page(_parse_query(request.query), limit=limit, cursor=cursor)
        body: Json = {"items": [await represent_task(self._services, f.task) for f in page.found]}
        if page.cursor is not None:
            body["next_cursor"] = page.cursor
        return Response(body=to_json(body))


def _parse_query(query: Any) -> TaskQuery:
    """Return what is looked for; raises InvalidTaskError for a time that is none."""
    name, _, value = query.get("metadata", "").partition("=")
    return TaskQuery(
        states=(TaskState(query["state"]),) if "state" in query else (),
        type=query.get("type", ""),
        queue=query.get("queue", ""),
        priority=Priority[query["priority"].upper()] if "priority" in query else None,
        metadata=((name, value),) if name else (),
        created_from_ms=_parse_time(query, "created_after"),
        created_before_ms=_parse_time(query, "created_before"),
    )


def _parse_time(query: Any, name: str) -> int | None:
    if name not in query:
        return None
    try:
        return max(0, parse_time(query[name]))
    except ValueError as error:
        raise InvalidTaskError(name, str(error)) from None
