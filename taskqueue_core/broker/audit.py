"""Audit: check that every task is in exactly the one place that its state names.

Reads a whole namespace in bounded steps and changes nothing. On a system that is running, a task
may move between two reads; a violation that a second audit does not repeat was such a move.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from taskqueue_core.broker.clients import Client
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import GROUP, Keys
from taskqueue_core.models import DEFAULT_QUEUE
from taskqueue_core.states import PLACES, Place, TaskState

_STEP = 500

#: Kind of key -> what it holds of a task, beside the task's hash.
PARTS: Final = {"b:": "body", "r:": "result", "h:": "history"}

_FIELDS: Final = ("s", "m", "q", "p", "y", "b", "V", "i", "O", "X")

_Row = dict[str, str | None]


async def audit(redis: Client, partitions: Sequence[Keys]) -> list[str]:
    """Return what is wrong, a sentence each; empty when everything is in its place."""
    problems: list[str] = []
    for keys in partitions:
        problems += await _Audit(redis, keys).run()
    return problems


async def scan(redis: Client, keys: Keys, kind: str) -> AsyncIterator[str]:
    """Yield the ids of a partition that have a key of this kind, such as ``t:``; some twice."""
    client: Any = redis
    start = len(keys.prefix) + len(kind)
    pattern = keys.prefix.replace("[", "\\[") + kind + "*"
    # All keys of a partition are on one node of a cluster.
    target: dict[str, Any] = {}
    if isinstance(redis, RedisCluster):
        target["target_nodes"] = redis.get_node_from_key(keys.meta)
    async for key in client.scan_iter(pattern, count=_STEP, **target):
        yield key.decode()[start:]


class _Audit:
    def __init__(self, redis: Client, keys: Keys) -> None:
        self._redis: Any = redis  # typed as bytes | str by redis-py; ours are bytes
        self._keys = keys
        self._places: dict[str, list[tuple[Place, str]]] = defaultdict(list)
        #: Entries that the group has read and nobody has.
        self._passed: set[str] = set()
        #: Task type -> tasks that were put aside for want of a handler.
        self._held: dict[str, set[str]] = defaultdict(set)
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
        await self._check_held()
        await self._check_parts()
        await self._check_events()
        return self._problems

    async def _read_index(self, key: str, place: Place) -> None:
        # A set first: ZSCAN may bring a member twice while the index grows or shrinks.
        members = {member async for member, _ in self._redis.zscan_iter(key, count=_STEP)}
        for member in members:
            self._places[member.decode()].append((place, ""))

    async def _read_stream(self, stream: str) -> None:
        # Before the entries: what waits behind this number then waits there for good.
        read_to = await self._read_to(stream)
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
                if place is Place.STREAM and _number(entry) <= read_to:
                    self._passed.add(where)
                owned.discard(entry)
            start = "(" + entries[-1][0].decode()
        self._problems += [f"{stream}: {entry.decode()} is pending but deleted" for entry in owned]

    async def _read_to(self, stream: str) -> tuple[int, int]:
        """Return the last entry that the group has read; (0, 0) without stream or group."""
        try:
            groups = await self._redis.xinfo_groups(stream)
        except ResponseError:
            return 0, 0  # what is wrong with it is said by the next read
        ends = [row["last-delivered-id"] for row in groups if row["name"] == GROUP.encode()]
        return _number(ends[0]) if ends else (0, 0)

    async def _read_pending(self, stream: str) -> set[bytes]:
        owned: set[bytes] = set()
        start = "-"
        while rows := await self._redis.xpending_range(stream, GROUP, start, "+", _STEP):
            owned.update(row["message_id"] for row in rows)
            start = "(" + rows[-1]["message_id"].decode()
        return owned

    async def _check_tasks(self) -> Counter[TaskState]:
        states: Counter[TaskState] = Counter()
        async for digits in scan(self._redis, self._keys, "t:"):
            row = await self._redis.hmget(self._keys.task(digits), _FIELDS)
            if not any(row):
                continue
            task = dict(zip(_FIELDS, (value and value.decode() for value in row), strict=True))
            found = self._places.pop(digits, [])
            state = STATE_LETTERS.get(task["s"] or "")
            if state is None:
                self._problems.append(f"task {digits} has no valid state")
                continue
            states[state] += 1
            if state is TaskState.SCHEDULED and task["i"]:
                self._held[task["y"] or ""].add(digits)
            self._check_place(digits, state, task, found)
            if task["X"] and state is not TaskState.RUNNING:
                self._problems.append(f"task {digits} is {state} but asked to stop")
            await self._check_fields(digits, task)
        for digits, found in self._places.items():
            names = ", ".join(place for place, _ in found)
            self._problems.append(f"{names} holds {digits}, which is no task")
        return states

    def _check_place(
        self, digits: str, state: TaskState, task: _Row, found: list[tuple[Place, str]]
    ) -> None:
        if [place for place, _ in found] != [PLACES[state]]:
            names = ", ".join(place for place, _ in found) or "nowhere"
            self._problems.append(f"task {digits} is {state} but in: {names}")
            return
        [(_, where)] = found
        if not where:
            return
        stream = self._keys.prefix + f"q:{task['q'] or DEFAULT_QUEUE}:{task['p'] or 1}"
        if where != f"{stream} {task['m'] or ''}":
            self._problems.append(f"task {digits} is not at {where}")
        elif where in self._passed:
            self._problems.append(f"task {digits} is {state} but its group has passed it")

    async def _check_fields(self, digits: str, task: _Row) -> None:
        if not task["y"]:
            self._problems.append(f"task {digits} has no type")
        if task["O"] and not await self._redis.hexists(self._keys.meta, "owners"):
            self._problems.append(f"task {digits} has an owner, but events do not say so")
        if (task["p"] or "1") not in {"0", "1", "2", "3"}:
            self._problems.append(f"task {digits} has no valid priority")
        if task["b"] is None and not await self._redis.exists(self._keys.body(digits)):
            self._problems.append(f"task {digits} has lost its body")
        if task["V"] == "1" and not await self._redis.exists(self._keys.result(digits)):
            self._problems.append(f"task {digits} has lost its result or error")

    def _check_backlog(self, states: Counter[TaskState], backlog: int) -> None:
        unfinished = (Place.STREAM, Place.PENDING_LIST, Place.SCHEDULE)
        actual = sum(n for state, n in states.items() if PLACES[state] in unfinished)
        if actual != backlog:
            self._problems.append(f"backlog says {backlog}, there are {actual} unfinished tasks")

    async def _check_held(self) -> None:
        noted = {name.decode() for name in await self._redis.smembers(self._keys.held_types)}
        for name in sorted(noted | self._held.keys()):
            rows = self._redis.zscan_iter(self._keys.held(name), count=_STEP)
            members = {member.decode() async for member, _ in rows}
            for digits in sorted(self._held[name] - members):
                self._problems.append(f"task {digits} is held but not in the index of its type")
            for digits in sorted(members - self._held[name]):
                self._problems.append(f"the index of held tasks has {digits}, which is not held")
            if bool(members) is not (name in noted):
                self._problems.append(f"the set of held types is wrong about {name}")

    async def _check_parts(self) -> None:
        for kind, name in PARTS.items():
            async for digits in scan(self._redis, self._keys, kind):
                if not await self._redis.exists(self._keys.task(digits)):
                    self._problems.append(f"{name} of {digits}, which is no task")

    async def _check_events(self) -> None:
        # The stream first: the count is never behind it.
        latest = await self._redis.xrevrange(self._keys.events, count=1)
        counted = int(await self._redis.hget(self._keys.meta, "events") or 0)
        if latest and _number(latest[0][0])[0] > counted:
            number = _number(latest[0][0])[0]
            self._problems.append(f"{counted} events are counted, but the last one is {number}")


def _number(entry: bytes) -> tuple[int, int]:
    milliseconds, _, count = entry.partition(b"-")
    return int(milliseconds), int(count)
