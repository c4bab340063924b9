"""The dead letters: listed, counted by kind, sent back to their queues, or given up."""

from __future__ import annotations

import heapq
import math
import secrets
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from taskqueue_core.broker.causes import Cause, Causes
from taskqueue_core.broker.clients import Client, together
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.broker.search import STEP, Search, TaskQuery
from taskqueue_core.keys import Keys
from taskqueue_core.models import DeadLetter
from taskqueue_core.states import TaskState

#: Most dead letters that are counted by kind, over all partitions, and most kinds in an answer.
COUNTED: Final = 10_000
GROUPS: Final = 200
#: Dead letters that one call gives up: a cheaper change than to send them back.
_CLEARED: Final = 2 * STEP


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the dead letters; what is empty fits all, ``error`` is any part of it."""

    type: str = ""
    queue: str = ""
    reason: str = ""
    error: str = ""

    @property
    def arguments(self) -> tuple[str, str, str, str]:
        """Return the filter as the scripts take it."""
        return self.type, self.queue, self.reason, self.error

    def fits(self, cause: Cause) -> bool:
        """Tell whether a death is of the type, the queue and the reason that are wanted."""
        pairs = zip((self.type, self.queue, self.reason), cause, strict=False)
        return all(name in ("", found.decode()) for name, found in pairs)


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Some of the dead letters that are wanted. With a ``cursor`` there may be more."""

    letters: list[DeadLetter]
    cursor: str | None


class DeadLetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters of one type that died of the same; ``error`` is cut after 256 bytes."""

    type: str
    reason: str
    error: str
    count: int
    latest_at_ms: int


class DeadLetterGroups(msgspec.Struct, frozen=True):
    """The groups with the most dead letters first, and how many were looked at."""

    groups: list[DeadLetterGroup]
    counted: int


_ANY: Final = DeadLetterFilter()


class DeadLetters:
    """The dead letters of one Redis namespace."""

    def __init__(
        self, redis: Client, search: Search, scripts: Scripts, partitions: Sequence[Keys]
    ) -> None:
        self._causes = Causes(redis, scripts, partitions)
        self._search = search
        self._scripts = scripts
        self._partitions = partitions

    async def page(
        self, wanted: DeadLetterFilter = _ANY, *, limit: int = 100, cursor: str | None = None
    ) -> DeadLetterPage:
        """Return up to ``limit`` dead letters, newest first; see ``Search.page``."""
        query = TaskQuery(
            states=(TaskState.DEAD_LETTER,),
            type=wanted.type,
            queue=wanted.queue,
            reason=wanted.reason,
            error=wanted.error,
        )
        page = await self._search.page(query, limit=limit, cursor=cursor)
        letters = [DeadLetter(task=one.task, added_at_ms=one.score) for one in page.found]
        return DeadLetterPage(letters, page.cursor)

    async def groups(self, wanted: DeadLetterFilter = _ANY) -> DeadLetterGroups:
        """Count the newest dead letters by type, reason and error; each partition has its share.

        Causes are remembered, see ``Causes``. Only a part of an error is looked for in Redis, where
        the whole error is.
        """
        share = -(-COUNTED // len(self._partitions))
        sums: dict[tuple[bytes, bytes, bytes], tuple[int, int]] = {}

        def add(kind: tuple[bytes, bytes, bytes], count: int, latest: int) -> None:
            known, latest_before = sums.get(kind, (0, 0))
            sums[kind] = (known + count, max(latest, latest_before))

        async def tally(keys: Keys) -> int:
            counted = 0
            async for looked, rows in self._steps(keys, wanted, share):
                counted += looked
                for task_type, reason, error, *numbers in rows:
                    add((task_type, reason, error), *numbers)
            return counted

        async def recall(keys: Keys) -> int:
            counted, causes = await self._causes.newest(keys, share)
            for cause, numbers in causes.items():
                if wanted.fits(cause):
                    add((cause.type, cause.reason, cause.error), *numbers)
            return counted

        count = tally if wanted.error else recall
        counted = sum(await together([partial(count, keys) for keys in self._partitions]))
        most = heapq.nlargest(GROUPS, sums.items(), key=lambda item: item[1])
        return DeadLetterGroups([_group(*kind, *numbers) for kind, numbers in most], counted)

    async def count(self, wanted: DeadLetterFilter = _ANY) -> int:
        """Return how many dead letters there are of those that are wanted."""

        async def tally(keys: Keys) -> int:
            total = 0
            async for _, rows in self._steps(keys, wanted):
                total += sum(row[3] for row in rows)
            return total

        return sum(await together([partial(tally, keys) for keys in self._partitions]))

    async def _steps(
        self, keys: Keys, wanted: DeadLetterFilter, most: float = math.inf
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        """Yield what ``tally.lua`` counts in the newest ``most`` of a partition, step by step."""
        place: list[bytes] = [b"", b""]
        looked = step = 0
        while looked == step and most > 0:
            step = int(min(STEP, most))
            looked, *place, rows = await self._scripts.call(
                "tally", [keys.meta], [step, *place, *wanted.arguments]
            )
            most -= looked
            yield looked, rows

    async def redrive(self, wanted: DeadLetterFilter = _ANY) -> int:
        """Send dead letters back to their queues; those that die meanwhile stay. The count."""
        token = secrets.token_hex(8)

        async def sweep(keys: Keys) -> int:
            before: str | int = ""
            place: list[bytes] = [b"", b""]
            total, looked = 0, STEP
            while looked == STEP:
                looked, before, moved, *place = await self._scripts.call(
                    "redrive", [keys.meta], [before, STEP, token, *place, *wanted.arguments]
                )
                total += moved
            return total

        return sum(await together([partial(sweep, keys) for keys in self._partitions]))

    async def clear(self) -> int:
        """Give every dead letter up: it becomes failed and is deleted in time. The count."""

        async def sweep(keys: Keys) -> int:
            before: str | int = ""
            total, moved = 0, _CLEARED
            while moved == _CLEARED:
                moved, before = await self._scripts.call("clear", [keys.meta], [before, _CLEARED])
                total += moved
            return total

        return sum(await together([partial(sweep, keys) for keys in self._partitions]))


def _group(
    task_type: bytes, reason: bytes, error: bytes, count: int, latest_at_ms: int
) -> DeadLetterGroup:
    # The cut may have gone through a character.
    text = error.decode("utf-8", "ignore")
    return DeadLetterGroup(
        type=task_type.decode(),
        reason=reason.decode(),
        error=text,
        count=count,
        latest_at_ms=latest_at_ms,
    )
