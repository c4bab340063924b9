"""Operations of the tag ``events``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from taskqueue_core.events import Cursor
from taskqueue_server.listeners import event_frame
from taskqueue_server.messages import Request, Response
from taskqueue_server.problems import ProblemError
from taskqueue_server.representations import to_json
from taskqueue_server.selection import Selection, parse_cursor
from taskqueue_server.services import Services

#: Events that one call looks at, where few of them are wanted.
MOST_LOOKED_AT: Final = 5_000
_DEFAULT_LIMIT: Final = 100
#: In the place of an id, which it can never be.
_LATEST: Final = "latest"


class EventOperations:
    """Past events, and the answer to those who ask for present ones without a WebSocket."""

    def __init__(self, services: Services) -> None:
        self._broker = services.broker

    async def list_events(self, request: Request) -> Response:
        """Answer with the wanted events behind a place, and the place to go on from."""
        after = await self._place(request.query)
        selection = Selection.parse(request.query, owner=request.principal.owner)
        limit = request.query.get("limit", _DEFAULT_LIMIT)
        items, cursor = await self._collect(after, selection, limit)
        return Response(body=to_json({"items": items, "next_cursor": cursor}))

    async def _place(self, query: Mapping[str, Any]) -> Cursor | None:
        if query.get("after") == _LATEST:
            return await self._broker.history.now()
        return parse_cursor(query, "after", len(self._broker.partitions))

    async def _collect(
        self, after: Cursor | None, selection: Selection, limit: int
    ) -> tuple[list[msgspec.Raw], str]:
        items: list[msgspec.Raw] = []
        step = limit if selection.is_everything else max(limit, MOST_LOOKED_AT // 5)
        for _ in range(0, MOST_LOOKED_AT, step):
            page = await self._broker.history.read(after, step, partition=selection.partition)
            for event, place in page.events:
                if selection.wants(event):
                    items.append(msgspec.Raw(event_frame(event, place).body))
                    if len(items) == limit:
                        return items, place
            after = page.cursor
            if page.is_last:
                break
        return items, str(after)

    async def connect_websocket(self, _request: Request) -> Response:
        """Refuse a plain request; handshakes never come here."""
        raise ProblemError(
            426,
            "upgrade-required",
            "this path speaks WebSocket; connect to it with a WebSocket client",
            headers=((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
        )
