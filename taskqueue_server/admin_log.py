"""The log's record of administrative actions on many tasks: who did what, to how many."""

from __future__ import annotations

from typing import Final

import structlog

from taskqueue_server.messages import Request

#: Who calls while authentication is off.
ANYBODY: Final = "anybody"
_log = structlog.get_logger(__name__)


def note_action(request: Request, action: str, *, count: int, **target: str) -> None:
    """Log an action that was carried out; ``target`` is what it was about, in names only."""
    name = request.principal.name or ANYBODY
    _log.info("admin action", action=action, by=name, count=count, **target)
