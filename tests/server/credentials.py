"""Servers that ask who calls, and what a caller may show them."""

from __future__ import annotations

import time
from typing import Any, Final

import jwt

from taskqueue_core.settings import AuthSettings, Settings

#: Keys of the settings: they may do everything.
KEYS: Final = ("first-key", "second-ключ")
SECRET: Final = "a secret of tokens with 32 bytes."


def guarded(settings: Settings, **auth: Any) -> Settings:
    """Return settings with which every caller is asked for a key or a token."""
    chosen = {"enabled": True, "api_keys": KEYS, "jwt_secret": SECRET, **auth}
    return settings.model_copy(update={"auth": AuthSettings(**chosen)})


def token(secret: str = SECRET, *, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token; a claim that is ``None`` is left out."""
    everything = {"sub": "somebody", "exp": int(time.time()) + 3_600, **claims}
    present = {name: value for name, value in everything.items() if value is not None}
    return jwt.encode(present, secret, algorithm=algorithm)


def bearer(credential: str) -> dict[str, str]:
    """Return the header that shows a key or a token."""
    return {"Authorization": f"Bearer {credential}"}
