"""How often clients may call: one allowance each, shared by every process that asks here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Final

import msgspec

from taskqueue_core.broker.coalescing import Coalescer
from taskqueue_core.broker.intake import BATCH
from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.errors import BrokerError, BrokerUnavailableError
from taskqueue_core.keys import Keys

#: How long an answer may take. Whoever waits for it has done nothing yet.
_PATIENCE_SECONDS: Final = 0.5
#: How long nobody asks a partition that gave none.
_SILENCE_SECONDS: Final = 1.0

_Request = tuple[str, int, int]


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request is admitted (``wait_ms`` 0) or may come again after a wait.

    ``remaining`` is what the client may ask for at once from now on; it is all of it again after
    ``whole_in_ms``.
    """

    wait_ms: int
    remaining: int
    whole_in_ms: int


class Admission:
    """Counts the requests of clients by the broker's clock; each is in one partition."""

    def __init__(
        self,
        scripts: Scripts,
        partitions: Sequence[Keys],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scripts = scripts
        self._partitions = partitions
        self._clock = clock
        self._silent_until = [0.0] * len(partitions)
        self._requests = [Coalescer(partial(self._call, keys), most=BATCH) for keys in partitions]

    async def close(self) -> None:
        """End what is under way."""
        for coalescer in self._requests:
            await coalescer.close()

    async def take(self, client: str, weight: int = 1, *, paid: int = 0) -> Verdict:
        """Count a request that weighs so much, unless it comes too fast.

        ``paid`` is what has been counted of it before.

        Raises:
            BrokerError: nobody knows. That is said soon: in half a second, and at once for another
                second.
        """
        name = sha256(client.encode("utf-8", "replace")).hexdigest()[:32]
        partition = int(name, 16) % len(self._partitions)
        if self._clock() < self._silent_until[partition]:
            raise BrokerUnavailableError("Redis did not say how often clients have called")
        return await self._requests[partition].ask((name, weight, paid))

    async def _call(self, keys: Keys, requests: Sequence[_Request]) -> list[Verdict]:
        names = [keys.meta, *(keys.rate(name) for name, _, _ in requests)]
        values: list[Argument] = []
        for _, weight, paid in requests:
            values += (weight, paid)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                reply = await self._scripts.call("admit", names, values)
        except (TimeoutError, BrokerError) as error:
            self._silent_until[keys.partition] = self._clock() + _SILENCE_SECONDS
            if isinstance(error, BrokerError):
                raise
            raise BrokerUnavailableError(f"no answer within {_PATIENCE_SECONDS} s") from error
        return [Verdict(*row) for row in zip(reply[::3], reply[1::3], reply[2::3], strict=True)]
