"""The gate: who calls, and whether they may use the operation. HTTP and WebSocket pass it alike.

A credential is an API key or a token. It is shown as X-API-Key, as a bearer token, or, where a
browser can set no header, as the query parameter ``token`` of a WebSocket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import parse_qsl

from taskqueue_core.broker import ApiKeys
from taskqueue_core.settings import Settings
from taskqueue_server.keyring import ConfiguredKeys, StoredKeys
from taskqueue_server.messages import Scope
from taskqueue_server.principal import ANYBODY, Principal
from taskqueue_server.problems import ProblemError, forbidden, unauthorized
from taskqueue_server.tokens import Tokens


class Gate:
    """Lets callers in, or not."""

    def __init__(
        self,
        settings: Settings,
        api_keys: ApiKeys,
        now_ms: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_open = not settings.auth.enabled
        self._configured = ConfiguredKeys(settings.auth.api_keys)
        self._tokens = Tokens(settings.auth, now_ms)
        self._stored = StoredKeys(api_keys, now_ms, clock)

    async def admit(self, scope: Scope, required: str) -> Principal:
        """Return the caller of a request or handshake, who has the scope ``required``.

        The first credential that is valid counts.

        Raises:
            ProblemError: no valid credential is shown (401), or it does not allow this (403).
            BrokerUnavailableError: it is a stored key and Redis does not say whether it is valid.
        """
        if self._is_open:
            return ANYBODY
        for credential in _credentials(scope):
            principal = await self.identify(credential)
            if principal is not None:
                _check_scopes(principal, required)
                return principal
        raise _unauthorized(scope)

    async def identify(self, credential: bytes) -> Principal | None:
        """Return who has a credential, ``None`` when it is none or not valid any more."""
        digest = sha256(credential).digest()
        return (
            self._configured.find(digest)
            or self._tokens.find(credential, digest)
            or await self._stored.find(credential, digest)
        )


def _credentials(scope: Scope) -> list[bytes]:
    """Return what is shown: a key, a bearer token, a token in the query; the first of each."""
    key = authorization = None
    for name, value in scope["headers"]:
        if name == b"x-api-key" and key is None:
            key = value
        elif name == b"authorization" and authorization is None:
            authorization = value
    shown = [] if key is None else [key]
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            shown.append(token.strip())
    return shown + _query_tokens(scope) if scope["type"] == "websocket" else shown


def _query_tokens(scope: Scope) -> list[bytes]:
    try:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=100)
    except ValueError:
        return []
    return [value.encode() for name, value in pairs if name == "token"][:1]


def _check_scopes(principal: Principal, required: str) -> None:
    if principal.owner and "admin" in principal.scopes:
        raise forbidden("a token with an owner sees its own tasks only: it may not have admin")
    if not principal.may(required):
        raise forbidden(f"this needs a key or token with the scope {required}, or with admin")


def _unauthorized(scope: Scope) -> ProblemError:
    in_query = "?token=, as " if scope["type"] == "websocket" else ""
    return unauthorized(f"{in_query}X-API-Key or as a bearer token")
