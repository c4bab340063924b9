"""Audit: check that every task is in exactly the one place that its state names.

Reads a whole namespace in bounded steps and changes nothing. On a system that is running, a task
may move between two reads; a violation that a second audit does not repeat was such a move.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from taskqueue_core.broker.clients import Client
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import GROUP, Keys
from taskqueue_core.models import DEFAULT_QUEUE
from taskqueue_core.states import PLACES, Place, TaskState

_STEP = 500
_PARTS = {"b:": "body", "r:": "result", "h:": "history"}


async def audit(redis: Client, partitions: Sequence[Keys]) -> list[str]:
    """Return what is wrong, a sentence each; empty when everything is in its place."""
    problems: list[str] = []
    for keys in partitions:
        problems += await _Audit(redis, keys).run()
    return problems


class _Audit:
    def __init__(self, redis: Client, keys: Keys) -> None:
        self._redis: Any = redis  # typed as bytes | str by redis-py; ours are bytes
        self._keys = keys
        self._places: dict[str, list[tuple[Place, str]]] = defaultdict(list)
        self._problems: list[str] = []

    async def run(self) -> list[str]:
        keys = self._keys
        await self._read_index(keys.schedule, Place.SCHEDULE)
        await self._read_index(keys.done, Place.DONE)
        await self._read_index(keys.dead_letters, Place.DEAD_LETTERS)
        names: list[bytes] = await self._redis.zrange(keys.queues, 0, -1)
        for name in names:
            for priority in range(4):
                await self._read_stream(keys.stream(name.decode(), priority))
        states = await self._check_tasks()
        self._check_backlog(states, int(await self._redis.hget(keys.stats, "backlog") or 0))
        await self._check_parts()
        return self._problems

    async def _read_index(self, key: str, place: Place) -> None:
        # A set first: ZSCAN may bring a member twice while the index grows or shrinks.
        members = {member async for member, _ in self._redis.zscan_iter(key, count=_STEP)}
        for member in members:
            self._places[member.decode()].append((place, ""))

    async def _read_stream(self, stream: str) -> None:
        try:
            owned = await self._read_pending(stream)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                self._problems.append(f"{stream}: {error}")
                return
            # Fetch makes the group again; what is out of place without it shows below.
            owned = set()
        start = "-"
        while entries := await self._redis.xrange(stream, start, "+", _STEP):
            for entry, fields in entries:
                place = Place.PENDING_LIST if entry in owned else Place.STREAM
                where = f"{stream} {entry.decode()}"
                name = fields.get(b"i", b"an entry without an id").decode()
                self._places[name].append((place, where))
                owned.discard(entry)
            start = "(" + entries[-1][0].decode()
        self._problems += [f"{stream}: {entry.decode()} is pending but deleted" for entry in owned]

    async def _read_pending(self, stream: str) -> set[bytes]:
        owned: set[bytes] = set()
        start = "-"
        while rows := await self._redis.xpending_range(stream, GROUP, start, "+", _STEP):
            owned.update(row["message_id"] for row in rows)
            start = "(" + rows[-1]["message_id"].decode()
        return owned

    async def _scan(self, kind: str) -> AsyncIterator[str]:
        start = len(self._keys.prefix) + len(kind)
        pattern = self._keys.prefix.replace("[", "\\[") + kind + "*"
        # All keys of a partition are on one node of a cluster.
        target: dict[str, Any] = {}
        if isinstance(self._redis, RedisCluster):
            target["target_nodes"] = self._redis.get_node_from_key(self._keys.meta)
        async for key in self._redis.scan_iter(pattern, count=_STEP, **target):
            yield key.decode()[start:]

    async def _check_tasks(self) -> Counter[TaskState]:
        states: Counter[TaskState] = Counter()
        async for digits in self._scan("t:"):
            row = await self._redis.hmget(self._keys.task(digits), ["s", "m", "q", "p"])
            if not any(row):
                continue
            found = self._places.pop(digits, [])
            state = STATE_LETTERS.get((row[0] or b"").decode())
            if state is None:
                self._problems.append(f"task {digits} has no valid state")
                continue
            states[state] += 1
            if [place for place, _ in found] != [PLACES[state]]:
                names = ", ".join(place for place, _ in found) or "nowhere"
                self._problems.append(f"task {digits} is {state} but in: {names}")
            elif found[0][1]:
                queue = (row[2] or DEFAULT_QUEUE.encode()).decode()
                stream = self._keys.stream(queue, int(row[3] or 1))
                if found[0][1] != f"{stream} {(row[1] or b'').decode()}":
                    self._problems.append(f"task {digits} is not at {found[0][1]}")
        for digits, found in self._places.items():
            names = ", ".join(place for place, _ in found)
            self._problems.append(f"{names} holds {digits}, which is no task")
        return states

    def _check_backlog(self, states: Counter[TaskState], backlog: int) -> None:
        unfinished = (Place.STREAM, Place.PENDING_LIST, Place.SCHEDULE)
        actual = sum(n for state, n in states.items() if PLACES[state] in unfinished)
        if actual != backlog:
            self._problems.append(f"backlog says {backlog}, there are {actual} unfinished tasks")

    async def _check_parts(self) -> None:
        for kind, name in _PARTS.items():
            async for digits in self._scan(kind):
                if not await self._redis.exists(self._keys.task(digits)):
                    self._problems.append(f"{name} of {digits}, which is no task")
