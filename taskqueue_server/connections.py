"""The connections of a server process: how many there may be, and how long each may take.

Nothing is timed while requests go well. A sweep, twice a second, notes what each connection is
waited for; who is still waited for, in the same request, when the time for that is over is ended.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol, cast

import structlog
from uvicorn.server import ServerState

from taskqueue_core.logs import Throttle
from taskqueue_core.settings import ServerSettings

#: Connections beyond ``server.maxconnections`` on which health is answered, and nothing else.
RESERVE: Final = 64
#: Between two sweeps: by so much a deadline may be late.
SWEEP_SECONDS: Final = 0.5

#: Bodies that are read have a deadline of their own, which ends in an answer; this is behind it.
_BODY_GRACE_SECONDS: Final = 1.0
_LINES_A_MINUTE: Final = 10
_log = structlog.get_logger(__name__)


class Stage(Enum):
    """What a connection is waited for."""

    HEAD = auto()  #: a request, or the rest of its headers
    BODY = auto()  #: the rest of its body
    ANSWER = auto()  #: nothing: it is this side's turn
    READER = auto()  #: the client, to take what it was sent
    NEXT = auto()  #: another request, after one that was answered
    END = auto()  #: nothing any more


class Place(Enum):
    """What a new connection may do."""

    FREE = auto()
    HEALTH_ONLY = auto()
    NONE = auto()


class Watched(Protocol):
    """A connection that the sweep looks at."""

    def stage(self) -> tuple[Stage, object]:
        """Return what is waited for, and the request in which."""

    def expire(self, stage: Stage) -> None:
        """End the connection: the time of the stage is over. It may be called again."""


@dataclass(frozen=True, slots=True)
class _Seen:
    stage: Stage
    request: object
    since: float


class Connections(ServerState):
    """uvicorn's state of a server, with limits."""

    def __init__(self, settings: ServerSettings) -> None:
        super().__init__()
        self._most = settings.max_connections
        self._most_per_address = settings.max_connections_per_address
        self._seconds = {
            Stage.HEAD: settings.read_header_timeout_seconds,
            Stage.BODY: settings.read_timeout_seconds + _BODY_GRACE_SECONDS,
            Stage.ANSWER: math.inf,
            Stage.READER: settings.write_timeout_seconds,
            Stage.NEXT: settings.idle_timeout_seconds,
            Stage.END: 0.0,
        }
        self._by_address: Counter[str] = Counter()
        self._number = 0
        self._seen: dict[Watched, _Seen] = {}
        self._throttle = Throttle(_LINES_A_MINUTE, time.monotonic)

    def enter(self, address: str) -> Place:
        """Count a new connection, whatever becomes of it, and return what it may do."""
        self._number += 1
        self._by_address[address] += 1
        is_crowd = self._by_address[address] > self._most_per_address
        if is_crowd or self._number > self._most + RESERVE:
            return Place.NONE
        return Place.HEALTH_ONLY if self._number > self._most else Place.FREE

    def leave(self, address: str) -> None:
        """Count a connection as closed."""
        self._number -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def sweep(self, now: float) -> None:
        """Look at every connection; ``now`` is in seconds and never goes back."""
        before, self._seen = self._seen, {}
        for connection in cast("list[Watched]", list(self.connections)):
            stage, request = connection.stage()
            seen = before.get(connection)
            if seen is None or seen.stage is not stage or seen.request is not request:
                seen = _Seen(stage, request, now)
            elif now - seen.since >= self._seconds[stage]:
                connection.expire(stage)
            self._seen[connection] = seen

    def tell(self, reason: str, address: str) -> None:
        """Log that a connection was refused or ended; some lines a minute for each reason."""
        if self._throttle.allow(reason):
            _log.warning("connection refused", reason=reason, address=address)


def address_of(client: tuple[Any, ...] | None) -> str:
    """Return whom a peer counts as: its address, of IPv6 the network that one customer has."""
    host = str(client[0]) if client else ""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))
