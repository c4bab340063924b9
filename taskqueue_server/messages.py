"""What operations get and give: a validated request, and a response ready to be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from taskqueue_server.principal import NOBODY, Principal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final = b"application/json"

#: Header of a request that may be sent again without being carried out twice.
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
#: Where layers leave headers for the answer, whatever answer it will be.
ANSWER_HEADERS: Final = "taskqueue.answer_headers"


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON body, once as Python values and once as the bytes that were sent."""

    values: Any
    raw: bytes


async def _charge_nothing(_weight: int) -> Exception | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that fulfils the contract.

    With ``refusal`` it came too fast, and may only be answered as a repeat of one that did not.
    ``charge`` counts what it weighs beyond any other request, and returns a refusal or nothing.
    ``traceparent`` is the trace that one with a body says to belong to, as it was sent.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    principal: Principal = NOBODY
    traceparent: str = ""
    refusal: Exception | None = None
    charge: Callable[[int], Awaitable[Exception | None]] = _charge_nothing

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of the body that were sent, ``null`` meaning "not sent"."""
        values = self.body.values if self.body else {}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer with its body encoded."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Headers = ()


Operation = Callable[[Request], Awaitable[Response]]


def find_header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of a header, its name in lower case."""
    return next((value for key, value in headers if key == name), None)


def find_traceparent(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the trace that a request says to belong to; "" when it says none, or several."""
    given = [value for key, value in headers if key == b"traceparent"]
    return given[0].decode("latin-1") if len(given) == 1 else ""


async def send_response(send: Send, response: Response) -> None:
    """Send an answer in one piece."""
    headers = list(response.headers)
    if response.status != 204:
        headers.append((b"content-type", response.content_type))
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
