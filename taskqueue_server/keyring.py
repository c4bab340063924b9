"""API keys: those of the settings, and those of ``taskqueue keys new`` that Redis holds.

Keys are known by their SHA-256 only, and compared in a time that does not depend on them.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from taskqueue_core.broker import ApiKeys, StoredKey, key_id
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.models import SCOPES
from taskqueue_server.principal import NOBODY, Principal

#: How long a stored key, or that there is none, is believed: after so long it is revoked for sure.
MAX_AGE_SECONDS: Final = 5.0
#: Most ids that are remembered, so that nobody can fill the memory with invented ones.
MAX_REMEMBERED: Final = 1_024
#: How long Redis may take to find a key before the caller is told to come again.
_PATIENCE_SECONDS: Final = 2.0


class ConfiguredKeys:
    """The keys of ``auth.apikeys``. They hold every scope and have no owner."""

    def __init__(self, keys: Iterable[str]) -> None:
        scopes = frozenset(SCOPES)
        self._known = [
            (sha256(key.encode()).digest(), Principal(f"config:{number}", scopes))
            for number, key in enumerate(keys, 1)
        ]

    def find(self, digest: bytes) -> Principal | None:
        """Return who has the key with this SHA-256; all keys are looked at in any case."""
        found = None
        for known, principal in self._known:
            if hmac.compare_digest(digest, known):
                found = principal
        return found


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What was found under an id; nobody has a key without a ``digest``. Times in s and ms."""

    believed_until: float
    digest: bytes
    expires_at_ms: float
    principal: Principal


class StoredKeys:
    """The keys in Redis, as they were a few seconds ago at most.

    ``now_ms`` is the wall clock, by which keys expire; ``clock`` gives seconds and never goes back.
    """

    def __init__(
        self, api_keys: ApiKeys, now_ms: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._api_keys = api_keys
        self._now_ms = now_ms
        self._clock = clock
        self._remembered: dict[bytes, _Remembered] = {}

    async def find(self, credential: bytes, digest: bytes) -> Principal | None:
        """Return who has a key with this text and SHA-256.

        Raises:
            BrokerUnavailableError: Redis does not say.
        """
        if not credential.startswith(b"tq_"):
            return None
        name = credential[3:11]
        found = self._remembered.get(name)
        if found is None or self._clock() >= found.believed_until:
            if key_id(credential.decode("latin-1")) is None:
                return None
            found = await self._read(name)
        is_same = hmac.compare_digest(digest, found.digest)
        return found.principal if is_same and self._now_ms() < found.expires_at_ms else None

    async def _read(self, name: bytes) -> _Remembered:
        believed_until = self._clock() + MAX_AGE_SECONDS
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                key = await self._api_keys.find(name.decode())
        except TimeoutError as error:
            message = f"no answer within {_PATIENCE_SECONDS:g} s"
            raise BrokerUnavailableError(message) from error
        found = _remember(believed_until, name.decode(), key)
        self._remembered.pop(name, None)
        while len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[name] = found
        return found


def _remember(believed_until: float, name: str, key: StoredKey | None) -> _Remembered:
    if key is None:
        return _Remembered(believed_until, b"", 0, NOBODY)
    expires_at_ms = math.inf if key.expires_at_ms is None else key.expires_at_ms
    principal = Principal(f"key:{name}", frozenset(key.scopes), key.owner)
    return _Remembered(believed_until, key.digest, expires_at_ms, principal)
