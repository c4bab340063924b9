"""What the newest dead letters died of, remembered, so that only new ones have to be read.

A death is a task and its time; what it was of does not change while the task is dead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from taskqueue_core.broker.clients import Client, batch
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.broker.search import STEP
from taskqueue_core.keys import Keys

#: Members of the index that are read in one command.
_MEMBERS: Final = 1_000
_FIELDS: Final = 4


class Cause(NamedTuple):
    """What a dead letter is counted by; ``error`` is cut after 256 bytes."""

    type: bytes
    queue: bytes
    reason: bytes
    error: bytes


class _Death(NamedTuple):
    score: bytes
    at_ms: int
    cause: Cause


class Causes:
    """The causes of deaths in one Redis namespace, as far as they were asked for the last time."""

    def __init__(self, redis: Client, scripts: Scripts, partitions: Sequence[Keys]) -> None:
        self._redis = redis
        self._scripts = scripts
        #: Per partition what is known of each task, by its id.
        self._known: list[dict[bytes, _Death]] = [{} for _ in partitions]

    async def newest(self, keys: Keys, most: int) -> tuple[int, dict[Cause, list[int]]]:
        """Count the newest ``most`` dead letters of a partition.

        Return how many were looked at, and for each cause the count and the latest death in ms.
        """
        scores = await self._scores(keys, most)
        before, known = self._known[keys.partition], {}
        missing = []
        for name, score in scores.items():
            death = before.get(name)
            if death is not None and death.score == score:
                known[name] = death
            else:
                missing.append(name)
        if missing:
            await self._learn(keys, missing, scores, known)
        self._known[keys.partition] = known
        counts: dict[Cause, list[int]] = {}
        for _, at_ms, cause in known.values():
            numbers = counts.get(cause)
            if numbers is None:
                counts[cause] = [1, at_ms]
            else:
                numbers[:] = numbers[0] + 1, max(at_ms, numbers[1])
        return len(scores), counts

    async def _learn(
        self,
        keys: Keys,
        names: Sequence[bytes],
        scores: Mapping[bytes, bytes],
        known: dict[bytes, _Death],
    ) -> None:
        """Read what these tasks died of; equal causes are kept once."""
        shared = {cause: cause for _, _, cause in known.values()}
        for at in range(0, len(names), STEP):
            step = names[at : at + STEP]
            tasks = [keys.task(name.decode()) for name in step]
            reply = await self._scripts.call("causes", [keys.meta, *tasks])
            for place, name in enumerate(step):
                cause = Cause(*reply[_FIELDS * place : _FIELDS * (place + 1)])
                if cause.type:
                    at_ms = int(float(scores[name]))
                    known[name] = _Death(scores[name], at_ms, shared.setdefault(cause, cause))

    async def _scores(self, keys: Keys, most: int) -> dict[bytes, bytes]:
        """Return the newest members of the index; those that die or leave meanwhile shift it."""
        scores: dict[bytes, bytes] = {}
        for start in range(0, most, _MEMBERS):
            stop = min(start + _MEMBERS, most) - 1
            command = ("ZRANGE", keys.dead_letters, start, stop, "REV", "WITHSCORES")
            [row] = await self._scripts.attempt("inspect", partial(batch, self._redis, [command]))
            scores.update(zip(row[::2], row[1::2], strict=True))
            if len(row) < 2 * _MEMBERS:
                break
        return scores
