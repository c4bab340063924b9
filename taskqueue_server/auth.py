"""Who may call: API keys, compared in constant time, for HTTP and WebSocket alike."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

from taskqueue_core.settings import Settings
from taskqueue_server.framework import NO_VALUE, AbstractSecurityHandler, OAuthProblem
from taskqueue_server.messages import Scope, find_header
from taskqueue_server.problems import unauthorized


class Keyring:
    """The accepted API keys, and whether one is asked for at all."""

    def __init__(self, keys: Iterable[str], *, is_enforced: bool = True) -> None:
        self._is_enforced = is_enforced
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @classmethod
    def from_settings(cls, settings: Settings) -> Keyring:
        """Return the keys that the settings demand."""
        return cls(settings.auth.api_keys, is_enforced=settings.auth.enabled)

    def accepts(self, key: bytes) -> bool:
        """Tell whether ``key`` is one of the keys, in a time that does not depend on it."""
        digest = sha256(key).digest()
        is_known = False
        for known in self._digests:
            is_known |= hmac.compare_digest(digest, known)
        return is_known

    def check_handshake(self, scope: Scope) -> None:
        """Raise ``ProblemError`` (401) unless a WebSocket handshake shows a key.

        Browsers cannot set its headers, so the key may be the query parameter ``token``.
        """
        if not self._is_enforced:
            return
        query = parse_qs(scope["query_string"].decode("latin-1"))
        shown = [
            find_header(scope["headers"], b"x-api-key"),
            bearer_token(scope),
            *(value.encode() for value in query.get("token", [])),
        ]
        if not any(self.accepts(key) for key in shown if key is not None):
            raise unauthorized("?token=, as X-API-Key or as a bearer token")


def bearer_token(scope: Scope) -> bytes | None:
    """Return the token of the Authorization header, ``None`` without one of that scheme."""
    scheme, _, token = (find_header(scope["headers"], b"authorization") or b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def _api_key(scope: Scope) -> bytes | None:
    return find_header(scope["headers"], b"x-api-key")


class _KeyScheme(AbstractSecurityHandler):  # type: ignore[misc]  # connexion has no types
    """One way to show an API key, as Connexion calls it."""

    def __init__(self, keyring: Keyring, find: Callable[[Scope], bytes | None]) -> None:
        self._keyring = keyring
        self._find = find

    def get_fn(self, security_scheme: Any, required_scopes: Any) -> Callable[[Any], Any]:
        """Return the check of one request."""

        def check(request: Any) -> Any:
            key = self._find(request.scope)
            if key is None:
                return NO_VALUE
            if not self._keyring.accepts(key):
                raise OAuthProblem("the API key is unknown")
            return {}

        return check


def security_map(keyring: Keyring) -> dict[str, Callable[[], AbstractSecurityHandler]]:
    """Return a handler for each of the contract's security schemes."""
    return {
        "apiKey": lambda: _KeyScheme(keyring, _api_key),
        "bearer": lambda: _KeyScheme(keyring, bearer_token),
    }
