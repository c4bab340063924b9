"""uvicorn's HTTP connection, with a bound on everything that a client decides.

A head has a size and a number of headers, requests that wait for their turn have a number. What
breaks a rule, or is no HTTP, ends the connection: with an answer where the request at fault is the
next to be answered, else after the last answer that is owed, so that no client takes a refusal for
the answer to something else. Deadlines are those of ``connections.py``.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taskqueue_server.connections import Connections, Place, Stage, address_of
from taskqueue_server.framing import EventsProtocol
from taskqueue_server.guards import STRICT_HEADERS
from taskqueue_server.messages import AsgiApp, Message, Receive, Scope, Send, send_response
from taskqueue_server.problems import CLOSE, ProblemError, problem_response

#: Longest request line with all headers, and most that is read at a time.
MAX_HEAD_BYTES: Final = 16_384
#: Most headers of a request; trailers count too.
MAX_HEADERS: Final = 100
#: Most requests of a connection that wait while an earlier one is answered.
MAX_WAITING: Final = 100
#: What is answered even where there is no place for more connections.
HEALTH_PATHS: Final = frozenset({"/health", "/health/live", "/health/ready", "/admin/health"})

_AGAIN: Final = ((b"retry-after", b"1"),)
_UNREADABLE: Final = ProblemError(400, "malformed-request", "the request is no valid HTTP/1.1")
_HOST: Final = ProblemError(
    400, "malformed-request", "a request has one Host header, neither none nor several"
)
_NO_UPGRADE: Final = ProblemError(
    400, "malformed-request", "a handshake has no body, and waits for earlier answers"
)
_LONG_LINE: Final = ProblemError(
    414, "uri-too-long", f"the request line is longer than {MAX_HEAD_BYTES} bytes"
)
_LARGE_HEAD: Final = ProblemError(
    431,
    "head-too-large",
    f"request line and headers are larger than {MAX_HEAD_BYTES} bytes, or more than {MAX_HEADERS}",
)
_IMPATIENT: Final = ProblemError(
    429, "too-many-requests", f"more than {MAX_WAITING} requests wait on this connection"
)
_SLOW_HEAD: Final = ProblemError(
    408,
    "request-timeout",
    "the headers were not complete in time (server.readheadertimeout)",
)
_SLOW_BODY: Final = ProblemError(
    408, "request-timeout", "the body was not complete in time (server.readtimeout)"
)
_FULL: Final = ProblemError(
    503,
    "too-many-connections",
    "this server has as many connections as server.maxconnections or "
    "server.maxconnectionsperaddress allows; try again later",
    headers=_AGAIN,
)


class HttpProtocol(HttpToolsProtocol):
    """One connection; ``server_state`` is a ``Connections``."""

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.scope = cast("HTTPScope", {})  # uvicorn's is None until the first request
        self._address = ""
        #: What came since the start of a head, or since the last piece of a body in chunks.
        self._head_bytes = 0
        self._has_host = False
        self._is_over = False
        self._heir: EventsProtocol | None = None
        self._fault = _UNREADABLE

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Find a place for the connection, or end it."""
        super().connection_made(transport)
        self._address = address_of(self.client)
        place = self.server_state.enter(self._address)
        if place is Place.NONE:
            self._refuse(_FULL)
        elif place is Place.HEALTH_ONLY:
            self.app = _HealthOnly(self.app)
            self.ws_protocol_class = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back; after an upgrade that is the business of the next protocol."""
        self.server_state.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come, in steps after which the limits are looked at."""
        if len(data) <= MAX_HEAD_BYTES:
            self._read(data)
            return
        for start in range(0, len(data), MAX_HEAD_BYTES):
            self._read(data[start : start + MAX_HEAD_BYTES])

    def _read(self, data: bytes) -> None:
        if self._is_over:
            if self._heir is not None:
                self._heir.data_received(data)
            return
        self._unset_keepalive_if_required()
        cycle = self.cycle
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(self._fault)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        else:
            request: Any = self.scope  # its type knows nothing of one that is not complete
            is_head = "method" not in request
            is_between = not is_head and self.headers is request["headers"]
            if is_between or cycle is not self.cycle:
                # Where a head was completed too, it is unknown where this one begins.
                self._head_bytes = 0
            elif self._head_bytes >= MAX_HEAD_BYTES:
                self._refuse(_LONG_LINE if is_head and not self.headers else _LARGE_HEAD)
            if len(self.pipeline) > MAX_WAITING:
                self._refuse(_IMPATIENT)

    def _upgrade(self, rest: bytes) -> None:
        """Hand the connection over; what upgrades to anything else is a request like others."""
        cycle = self.cycle
        is_free = cycle is None or cycle.response_complete
        if is_free and self._should_upgrade():
            self._is_over = True
            self.handle_websocket_upgrade()
            self._heir = cast("EventsProtocol", self.transport.get_protocol())
            self._heir.inherit(self._address, rest)
        elif cycle is None or cycle.scope is not self.scope:
            self._refuse(_NO_UPGRADE)
        else:
            # Behind the upgrade that there is not comes whatever the client makes of it.
            self._is_over = True
            cycle.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, up to so many."""
        headers = self.headers
        if len(headers) >= MAX_HEADERS:
            raise self._fail(_LARGE_HEAD)
        name = name.lower()
        if name == b"host":
            if self._has_host:
                raise self._fail(_HOST)
            self._has_host = True
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin a request whose headers are right."""
        if not self._has_host and self.parser.get_http_version() == "1.1":
            raise self._fail(_HOST)
        self._has_host = False
        super().on_headers_complete()

    def _fail(self, problem: ProblemError) -> Exception:
        """Return what a callback raises to have the connection refused for this reason."""
        self._fault = problem
        return ValueError(problem.kind)

    def on_chunk_header(self) -> None:
        """Keep trailers, which come after the chunks, apart from the headers."""
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body: what comes before the next has a size, as a head has."""
        self._head_bytes = 0
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """End a chunk, of which the last has the trailers."""
        self.headers = self.scope["headers"]  # type: ignore[assignment]
        self._has_host = False

    def _refuse(self, problem: ProblemError) -> None:
        """Read nothing more, and end the connection."""
        if self._is_over:
            return
        self._is_over = True
        self.server_state.tell(problem.kind, self._address)
        cycle = self.cycle
        if cycle is None or (cycle.response_complete and cycle.scope is not self.scope):
            self._answer(problem)
        elif cycle.response_complete:
            # The rest of a request at fault that was answered before it was complete.
            self.transport.close()
        elif cycle.scope is not self.scope or not cycle.more_body:
            # What is at fault comes after a request which will be answered.
            cycle.keep_alive = False
        elif self.pipeline:
            # Its own body is, but earlier requests will be answered; see ``stage``.
            self.pipeline.popleft()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._answer(problem)

    def _answer(self, problem: ProblemError) -> None:
        response = problem_response(problem)
        headers = [
            *self.server_state.default_headers,
            *STRICT_HEADERS,
            *response.headers,
            *CLOSE,
            (b"content-type", response.content_type),
            (b"content-length", b"%d" % len(response.body)),
        ]
        lines = [b"HTTP/1.1 %d " % response.status + HTTPStatus(response.status).phrase.encode()]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", response.body]))
        self.transport.close()

    def stage(self) -> tuple[Stage, object]:
        """Return what is waited for, and the request in which."""
        request: Any = self.scope
        cycle = self.cycle
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return Stage.READER, request
        if self._is_over and self.timeout_keep_alive_task is not None:
            return Stage.END, request
        if self.pipeline:
            # Reading may be paused until those before have their answers.
            return Stage.ANSWER, request
        if "method" not in request:
            return Stage.HEAD, request
        if cycle.more_body:
            return Stage.BODY, request
        return (Stage.NEXT if cycle.response_complete else Stage.ANSWER), request

    def expire(self, stage: Stage) -> None:
        """End the connection: the time of the stage is over."""
        if stage is Stage.READER:
            self.transport.abort()
        elif stage is Stage.HEAD and self.scope:
            self._refuse(_SLOW_HEAD)
        elif stage is Stage.BODY and not self.cycle.response_complete:
            self._refuse(_SLOW_BODY)
        else:
            self.transport.close()


class _HealthOnly:
    """The application of a server that is full: it says so, and whether it is well."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, the last of its connection."""

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *CLOSE]}
            await send(message)

        if scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send_last)
        else:
            await send_response(send_last, problem_response(_FULL))
