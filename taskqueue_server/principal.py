"""Who calls, and what that caller may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskqueue_core.models import SCOPES


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request.

    ``name`` tells clients apart, for limits: ``config:<n>``, ``key:<id>`` or ``jwt:<subject>``, and
    nothing where nobody is asked who they are. With an ``owner`` the caller sees and changes tasks
    of that owner only, and what it submits is that owner's.
    """

    name: str
    scopes: frozenset[str]
    owner: str = ""

    def may(self, scope: str) -> bool:
        """Tell whether the caller has a scope; ``admin`` is all of them."""
        return scope in self.scopes or "admin" in self.scopes


#: Where the gate leaves the caller, as a ``Principal``.
PRINCIPAL: Final = "taskqueue.principal"

#: The caller of an operation that is open to all: nobody has looked at who it is.
NOBODY: Final = Principal("", frozenset())

#: Every caller while authentication is off.
ANYBODY: Final = Principal("", frozenset(SCOPES))
