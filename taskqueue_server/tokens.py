"""JSON Web Tokens signed with HS256 and ``auth.jwtsecret``.

Claims: ``exp`` and ``sub`` are required; ``scope`` is a list or one text with spaces, ``owner`` a
name. ``iss`` and ``aud`` must be those of the settings, and a token for another audience is not
ours. A valid token is verified once and remembered until it expires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jwt

from taskqueue_core.models import SCOPES, is_name
from taskqueue_core.settings import AuthSettings
from taskqueue_server.principal import Principal

#: Longest token that is looked at, in bytes.
MAX_TOKEN_BYTES: Final = 4_096
#: Most tokens that are remembered.
MAX_REMEMBERED: Final = 1_024
_LONGEST_SUBJECT: Final = 128

# Times are checked here, by the clock that was handed in.
_OPTIONS: Final[Any] = {
    "require": ["exp", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class Tokens:
    """Verifies tokens; without a secret none is valid. ``now_ms`` is the wall clock."""

    def __init__(self, settings: AuthSettings, now_ms: Callable[[], int]) -> None:
        self._secret = settings.jwt_secret.encode()
        self._issuer = settings.jwt_issuer or None
        self._audience = settings.jwt_audience or None
        self._now_ms = now_ms
        self._remembered: dict[bytes, tuple[float, Principal]] = {}

    def find(self, credential: bytes, digest: bytes) -> Principal | None:
        """Return who a token with this text and SHA-256 was made for."""
        now = self._now_ms() / 1000
        remembered = self._remembered.get(digest)
        if remembered is not None:
            expires, principal = remembered
            return principal if now < expires else None
        if not self._secret or credential.count(b".") != 2 or len(credential) > MAX_TOKEN_BYTES:
            return None
        try:
            claims = jwt.decode(
                credential,
                self._secret,
                algorithms=["HS256"],
                audience=self._audience,
                issuer=self._issuer,
                options=_OPTIONS,
            )
            expires, principal = _seconds(claims["exp"]), _principal(claims)
            begins = _seconds(claims.get("nbf", 0))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        if not begins <= now < expires:
            return None
        while len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = expires, principal
        return principal


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number of seconds")
    return value


def _principal(claims: dict[str, Any]) -> Principal:
    """Return whom the claims name; scopes that are not ours are left out."""
    subject, owner, scopes = claims["sub"], claims.get("owner"), claims.get("scope") or []
    if not isinstance(subject, str) or not 1 <= len(subject) <= _LONGEST_SUBJECT:
        raise ValueError("no subject")
    if owner is not None and not (isinstance(owner, str) and is_name(owner)):
        raise ValueError("the owner is no name")
    granted = scopes.split() if isinstance(scopes, str) else scopes
    if not isinstance(granted, list):
        raise TypeError("no scopes")
    return Principal(f"jwt:{subject}", frozenset(s for s in SCOPES if s in granted), owner or "")
