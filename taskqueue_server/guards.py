"""What surrounds every HTTP request: its id, its error answer, its measurement, its body's limits,
the headers that keep browsers from making anything else of an answer than what it is.

Guards know nothing of operations: they hold for unknown paths and wrong methods too.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from taskqueue_core.logs import subject
from taskqueue_server.messages import (
    ANSWER_HEADERS,
    AsgiApp,
    Message,
    Receive,
    Scope,
    Send,
    find_header,
    send_response,
)
from taskqueue_server.origins import Origins
from taskqueue_server.problems import (
    CLOSE,
    ProblemError,
    internal_error,
    problem_response,
    to_problem,
)

#: Called after each answer: (method, path template, status, seconds).
Observe = Callable[[str, str, int, float], None]

#: Where routing leaves the path template of the operation, for the measurement.
TEMPLATE: Final = "taskqueue.path_template"

#: Sent with every answer: it is what it says it is, stays with who asked, and in no foreign frame.
STRICT_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_log = structlog.get_logger(__name__)
_access = structlog.get_logger("taskqueue.access")


class ClientGoneError(Exception):
    """Raised when the client went away before its request was complete: nobody to answer."""


class Guards:
    """The outermost layer of the HTTP side."""

    def __init__(
        self, app: AsgiApp, observe: Observe, origins: Origins, *, has_access_log: bool = False
    ) -> None:
        self._has_access_log = has_access_log
        self._app = app
        self._observe = observe
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens inside."""
        started = time.perf_counter()
        answer = _Answer(scope, send)
        token = subject.set(answer.describe)
        try:
            if scope.get("http_version", "1.1") != "1.1":
                _check_version(scope)
            if scope["method"] not in _READING:
                self._origins.check(scope)
            await self._app(scope, receive, answer.send)
        except ClientGoneError:
            return
        except Exception as error:
            problem = to_problem(error)
            if problem is None:
                _log.exception("request failed", request_id=answer.request_id, path=scope["path"])
                problem = internal_error()
            if answer.status:
                raise
            await send_response(answer.send, problem_response(problem, answer.request_id))
        finally:
            subject.reset(token)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        template = scope.get(TEMPLATE, "unmatched")
        seconds = time.perf_counter() - started
        self._observe(method, template, answer.status, seconds)
        if self._has_access_log:
            # Without the query, in which a token may be.
            _access.info(
                "answered",
                **answer.describe(),
                method=method,
                path=scope["path"],
                status=answer.status,
                seconds=round(seconds, 6),
            )


class _Answer:
    """The way out of one request: adds headers, keeps the status, drops the body of a HEAD."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._id = _request_id(scope)
        self._has_body = scope["method"] != "HEAD"
        self.status = 0

    @property
    def request_id(self) -> str:
        """Return the id as text."""
        return self._id.decode()

    def describe(self) -> Mapping[str, object]:
        """Return what every log line of the request says."""
        return {"request_id": self.request_id}

    async def send(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] += (*STRICT_HEADERS, (b"x-request-id", self._id))
            message["headers"] += self._scope.get(ANSWER_HEADERS, ())
        elif not self._has_body:
            message = {**message, "body": b""}
        await self._send(message)


def _request_id(scope: Scope) -> bytes:
    given = find_header(scope["headers"], b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return secrets.token_hex(8).encode()


def _check_version(scope: Scope) -> None:
    """Refuse what is no HTTP/1: where a request ends is not certain in another version."""
    if scope["http_version"] != "1.0":
        raise ProblemError(505, "http-version", "send the request as HTTP/1.1", headers=CLOSE)
    if find_header(scope["headers"], b"transfer-encoding") is not None:
        message = "HTTP/1.0 has no Transfer-Encoding; send Content-Length, or HTTP/1.1"
        raise ProblemError(400, "malformed-request", message, headers=CLOSE)


def has_body(scope: Scope) -> bool:
    """Tell whether the request declares a body."""
    length = find_header(scope["headers"], b"content-length")
    if length is None:
        return find_header(scope["headers"], b"transfer-encoding") is not None
    return length.strip(b"0 ") != b""


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """Return the whole body of a request.

    Raises:
        ProblemError: it is larger than ``max_bytes`` (413), or is not complete after ``seconds``
            (408). The connection is closed then, as the rest of the body is unread.
        ClientGoneError: the client went away.
    """
    length = find_header(scope["headers"], b"content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise ProblemError(
            408,
            "request-timeout",
            f"the body was not complete after {seconds:g} s; send it again, faster or smaller",
            headers=CLOSE,
        ) from None


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        413,
        "content-too-large",
        f"the body is larger than {max_bytes} bytes (server.maxbodybytes); keep large data "
        "elsewhere and send a reference",
        headers=CLOSE,
    )
