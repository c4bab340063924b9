"""Pages in browsers: which of them may change anything, follow events, and read answers.

A browser says where a page comes from. Pages of this server's own host may do everything, those of
``server.corsorigins`` too; others may not send anything but reads, and cannot see the answers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.cors import CORSMiddleware

from taskqueue_server.messages import AsgiApp, Scope, find_header
from taskqueue_server.problems import forbidden

_METHODS: Final = ("GET", "POST", "DELETE")
_REQUEST_HEADERS: Final = (
    "Authorization",
    "Idempotency-Key",
    "Traceparent",
    "X-API-Key",
    "X-Request-ID",
)
_ANSWER_HEADERS: Final = (
    "Idempotent-Replayed",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Request-ID",
)


class Origins:
    """The origins whose pages are trusted; ``allowed`` beside the server's own."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def check(self, scope: Scope) -> None:
        """Raise ``ProblemError`` (403) when a page of another origin sent this.

        What is sent without an origin comes from no page: there are no cookies that a page could
        make a browser send along.
        """
        origin = find_header(scope["headers"], b"origin")
        if origin is None:
            return
        text = origin.decode("latin-1").lower()
        host = (find_header(scope["headers"], b"host") or b"").decode("latin-1").lower()
        if text not in self._allowed and text.partition("://")[2] != host:
            raise forbidden(
                "pages of other origins may not do this; server.corsorigins names those that may"
            )


def with_cors(app: AsgiApp, allowed: Collection[str]) -> AsgiApp:
    """Return ``app``, whose answers browsers show to the pages of these origins."""
    if not allowed:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_methods=_METHODS,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_ANSWER_HEADERS,
    )
