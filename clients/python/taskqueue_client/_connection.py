"""Where the server is and who asks: what HTTP and WebSocket have in common."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from attrs import frozen

from taskqueue_client.errors import ApiError, make_api_error
from taskqueue_client.retries import RetryPolicy

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SOCKET_SCHEMES: Final = {"http": "ws", "https": "wss"}


def _user_agent() -> str:
    try:
        return f"taskqueue-client/{version('taskqueue-client')}"
    except PackageNotFoundError:
        return "taskqueue-client"


@frozen(kw_only=True)
class Connection:
    """One server, one credential, and how patient this client is."""

    url: httpx.URL
    credential: Callable[[], Mapping[str, str]]
    timeout_seconds: float
    retry: RetryPolicy
    ssl_context: ssl.SSLContext | None

    def http_options(self) -> dict[str, Any]:
        """Return what an httpx client takes."""
        return {
            "base_url": self.url,
            "headers": {"User-Agent": _user_agent()},
            "timeout": self.timeout_seconds,
            "verify": True if self.ssl_context is None else self.ssl_context,
            "trust_env": not self._is_loopback,
        }

    def socket_url(self, types: Sequence[str], task_id: str | None, since: str | None) -> str:
        """Return the address of a stream of events."""
        query = {"events": ",".join(types), "task_id": task_id, "since": since}
        chosen = urlencode({name: value for name, value in query.items() if value})
        path = self.url.path.rstrip("/") + "/ws"
        scheme = _SOCKET_SCHEMES[self.url.scheme]
        return str(self.url.copy_with(scheme=scheme, path=path, query=chosen.encode() or None))

    def socket_options(self) -> dict[str, Any]:
        """Return what a WebSocket takes."""
        return {
            "additional_headers": dict(self.credential()),
            "user_agent_header": _user_agent(),
            "open_timeout": self.timeout_seconds,
            "proxy": None if self._is_loopback else True,
            **(
                {"ssl": self.ssl_context} if self.ssl_context and self.url.scheme == "https" else {}
            ),
        }

    @property
    def _is_loopback(self) -> bool:
        # No proxy can reach what listens on this machine's loopback.
        return self.url.host in _LOOPBACK


def make_connection(
    url: str,
    *,
    api_key: str | None,
    token: str | Callable[[], str] | None,
    timeout: float,
    retry: RetryPolicy | None,
    ssl_context: ssl.SSLContext | None,
) -> Connection:
    """Return a connection to nothing yet.

    Raises:
        ValueError: there is no such URL or key, or there are two credentials.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"the server's URL cannot be used: {error}") from error
    if parsed.scheme not in _SOCKET_SCHEMES or not parsed.host:
        raise ValueError("the server's URL should look like http://127.0.0.1:8080")
    if api_key is not None and token is not None:
        raise ValueError("give an API key or a token, not both")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("the API key holds characters that no key has")

    def credential() -> dict[str, str]:
        if api_key is not None:
            return {"X-API-Key": api_key}
        if token is not None:
            return {"Authorization": f"Bearer {token if isinstance(token, str) else token()}"}
        return {}

    return Connection(
        url=parsed,
        credential=credential,
        timeout_seconds=timeout,
        retry=retry or RetryPolicy(),
        ssl_context=ssl_context,
    )


def api_error(status: int, reason: str, headers: Mapping[str, str], problem: Any) -> ApiError:
    """Return the error that an answer is, of HTTP or of a WebSocket's handshake."""
    return make_api_error(
        status,
        reason,
        problem,
        request_id=headers.get("X-Request-ID"),
        retry_after=headers.get("Retry-After"),
    )
