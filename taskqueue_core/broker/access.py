"""API keys in Redis: who may call with which scopes, on behalf of which owner, until when.

A key is ``tq_<id>_<secret>``. Its text is shown once and kept nowhere: Redis has its SHA-256, which
is found by the id. A secret of 256 random bits needs no slower hash.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec

from taskqueue_core.broker.clients import Client, attempted, server_time_ms
from taskqueue_core.errors import BrokerError, InvalidKeyError, NotFoundError
from taskqueue_core.keys import api_keys
from taskqueue_core.models import SCOPES, is_name
from taskqueue_core.settings import Settings

_SHAPE: Final = re.compile(r"tq_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_MS_PER_DAY: Final = 86_400_000
#: Ids that are tried for a new key; two of ten thousand keys clash once in a hundred cases.
_ATTEMPTS: Final = 8


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key as it is stored, under its id. Without ``expires_at_ms`` it does not expire.

    ``digest`` is the SHA-256 of the key's text.
    """

    digest: bytes
    scopes: tuple[str, ...]
    created_at_ms: int
    owner: str = ""
    expires_at_ms: int | None = None


_decoder = msgspec.json.Decoder(StoredKey)


def key_id(text: str) -> str | None:
    """Return the id in the text of an API key, ``None`` when it cannot be a stored one."""
    match = _SHAPE.fullmatch(text)
    return match[1] if match else None


class ApiKeys:
    """The API keys of one namespace. They are never changed, only made and revoked."""

    def __init__(self, redis: Client, settings: Settings) -> None:
        self._redis: Any = redis  # redis-py types answers as bytes | str; ours are bytes
        self._name = api_keys(settings.queue.namespace)
        self._retries = settings.redis.max_retries

    async def create(
        self, scopes: Collection[str], *, owner: str = "", days: float | None = None
    ) -> tuple[str, StoredKey]:
        """Store a new key and return its text, which cannot be had again.

        Raises:
            InvalidKeyError: it breaks a rule; nothing is stored.
        """
        _check(scopes, owner, days)
        now = await attempted(self._redis, self._retries, partial(server_time_ms, self._redis))
        for _ in range(_ATTEMPTS):
            name = secrets.token_hex(4)
            text = f"tq_{name}_{secrets.token_urlsafe(32)}"
            key = StoredKey(
                digest=sha256(text.encode()).digest(),
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                created_at_ms=now,
                owner=owner,
                expires_at_ms=None if days is None else now + round(days * _MS_PER_DAY),
            )
            if await self._add(name, msgspec.json.encode(key)):
                return text, key
        raise BrokerError("no free id for a new API key was found: revoke some that are not used")

    async def _add(self, name: str, encoded: bytes) -> bool:
        """Store a key under a free id; a repeat after a lost answer finds its own."""
        if await self._call("HSETNX", name, encoded):
            return True
        return bool(await self._call("HGET", name) == encoded)

    async def find(self, name: str) -> StoredKey | None:
        """Return the key with an id; ``None`` without one, or when its record is broken."""
        encoded = await self._call("HGET", name)
        return None if encoded is None else _decode(encoded)

    async def entries(self) -> dict[str, StoredKey]:
        """Return all keys by id, the oldest first; expired ones too, until they are revoked."""
        rows = await attempted(self._redis, self._retries, partial(self._redis.hgetall, self._name))
        found = {name.decode(): _decode(encoded) for name, encoded in rows.items()}
        sound = {name: key for name, key in found.items() if key is not None}
        return dict(sorted(sound.items(), key=lambda item: (item[1].created_at_ms, item[0])))

    async def revoke(self, name: str) -> None:
        """Delete the key with an id; raises NotFoundError.

        Servers forget a key that they have just seen within five seconds.
        """
        if not await self._call("HDEL", name):
            raise NotFoundError("API key", name)

    async def _call(self, command: str, *arguments: str | bytes) -> Any:
        run = partial(self._redis.execute_command, command, self._name, *arguments)
        return await attempted(self._redis, self._retries, run)


def _check(scopes: Collection[str], owner: str, days: float | None) -> None:
    known = ", ".join(SCOPES)
    if not scopes:
        raise InvalidKeyError(f"a key needs at least one scope of {known}")
    for scope in scopes:
        if scope not in SCOPES:
            raise InvalidKeyError(f"there is no scope {scope!r}: choose among {known}")
    if owner and not is_name(owner):
        raise InvalidKeyError(
            "an owner begins with a letter and has up to 64 letters, digits, _, . and -"
        )
    if owner and "admin" in scopes:
        raise InvalidKeyError(
            "a key with an owner sees its own tasks only, so it cannot have the scope admin"
        )
    if days is not None and not 0 < days <= 36_500:
        raise InvalidKeyError("a key expires after more than 0 and at most 36500 days")


def _decode(encoded: bytes) -> StoredKey | None:
    try:
        return _decoder.decode(encoded)
    except msgspec.MsgspecError:
        return None
