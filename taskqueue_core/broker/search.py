"""Find tasks by what they are, page by page: each page reads a bounded number of them.

Tasks are listed by the place that holds them: running ones, waiting ones, scheduled and retrying
ones, dead letters, ended ones. Within the first two the most urgent come first, by queue, in the
order in which they were queued; then those that are due soonest; then those that ended last. Each
partition is asked for the next few, and the answers are merged in that order.
"""

from __future__ import annotations

import heapq
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Final

import msgspec

from taskqueue_core.broker.clients import together
from taskqueue_core.broker.inspection import Inspection
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import Keys, id_from_hex
from taskqueue_core.models import Priority, Task, is_name
from taskqueue_core.states import TaskState

#: Most tasks that a page looks at, over all partitions; at least some in each of these.
CANDIDATES: Final = 500
_PER_PARTITION: Final = 8
#: Most tasks that a call of a script looks at or reads, and about how many bytes of their bodies:
#: it keeps everybody else waiting for less than a millisecond, however much is stored.
STEP: Final = 25
STEP_BYTES: Final = 256 * 1024
#: Most bytes of bodies and results that a page reads, its first task apart.
PAGE_BYTES: Final = 4 * 1024 * 1024

_LETTERS: Final = {state: letter for letter, state in STATE_LETTERS.items()}
#: State -> the place that ``search.lua`` knows by this digit.
_PLACES: Final = {
    TaskState.RUNNING: "1",
    TaskState.PENDING: "2",
    TaskState.SCHEDULED: "3",
    TaskState.RETRYING: "3",
    TaskState.DEAD_LETTER: "4",
    TaskState.COMPLETED: "5",
    TaskState.CANCELLED: "5",
    TaskState.FAILED: "5",
}
_STREAMS: Final = ("1", "2")
_FIELDS: Final = 6

_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_ENTRY: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,20})")
_DIGITS: Final = re.compile(r"[0-9a-f]{32}")

_metadata = msgspec.json.Decoder(dict[str, str])
_encode_json: Final = msgspec.json.Encoder().encode


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a task must be to be found; what is empty or ``None`` fits every task.

    ``created_from_ms`` is included, ``created_before_ms`` is not. ``error`` is any part of the
    error; together with ``reason`` it is for dead letters.
    """

    states: tuple[TaskState, ...] = ()
    type: str = ""
    queue: str = ""
    priority: Priority | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    created_from_ms: int | None = None
    created_before_ms: int | None = None
    reason: str = ""
    error: str = ""

    @property
    def places(self) -> str:
        """Return the digits of the places to go through."""
        wanted = self.states or tuple(TaskState)
        return "".join(sorted({_PLACES[state] for state in wanted}))

    def fits(self, task: Task) -> bool:
        """Tell whether a task, as it is now, has the state and the metadata that are wanted."""
        if self.states and task.state not in self.states:
            return False
        if not self.metadata:
            return True
        found = _metadata.decode(task.metadata) if task.metadata else {}
        return all(found.get(name) == value for name, value in self.metadata)


class Found(msgspec.Struct, frozen=True):
    """A task that was found; ``score`` is the time its place orders it by, 0 in the streams."""

    task: Task
    score: int


class TaskPage(msgspec.Struct, frozen=True):
    """Some of the tasks that fit. With a ``cursor`` there may be more, also after an empty page."""

    found: list[Found]
    cursor: str | None


class _Position(msgspec.Struct, frozen=True, array_like=True):
    """A place, and where in it: priority, queue and entry id; or score, nothing and id."""

    place: str
    first: str
    queue: str
    last: str
    partition: int

    @property
    def is_sound(self) -> bool:
        """Tell whether a position that a client sent can be one of ours."""
        if self.place not in _STREAMS:
            is_member = _DIGITS.fullmatch(self.last) is not None and not self.queue
            return is_member and _NUMBER.fullmatch(self.first) is not None
        entry = _ENTRY.fullmatch(self.last)
        is_entry = entry is not None and int(entry[1]) > 0 and int(entry[2]) < 2**64
        return is_entry and self.first in ("0", "1", "2", "3") and is_name(self.queue)

    @property
    def score(self) -> int:
        """Return the time its place orders it by, 0 in the streams."""
        return 0 if self.place in _STREAMS else int(self.first)

    @property
    def order(self) -> tuple[int, int, str, int, int, int]:
        """Return what positions of all partitions are compared by."""
        place, first = int(self.place), int(self.first)
        if self.place in _STREAMS:
            ms, _, number = self.last.partition("-")
            return (place, -first, self.queue, int(ms), int(number), self.partition)
        upwards = 1 if self.place == "3" else -1
        return (place, upwards * first, "", upwards * int(self.last, 16), 0, 0)

    def seen_from(self, partition: int) -> tuple[str, str, str]:
        """Return the position behind which this partition goes on.

        Entries of several partitions can have one id: in those whose turn comes later, the one
        with the id itself has not been seen yet.
        """
        last = self.last
        if self.place in _STREAMS and partition > self.partition:
            ms, _, number = last.partition("-")
            last = f"{ms}-{int(number) - 1}" if int(number) else f"{int(ms) - 1}-{2**64 - 1}"
        return self.first, self.queue, last


_decoder = msgspec.json.Decoder(tuple[str, _Position])


class _Candidate(msgspec.Struct, frozen=True):
    position: _Position
    digits: str
    size: int


class _Part(msgspec.Struct, frozen=True):
    """What one partition found, and up to where it looked; ``None`` when nothing is behind."""

    candidates: list[_Candidate]
    horizon: _Position | None


class Search:
    """Reads of the tasks of one Redis namespace."""

    def __init__(
        self, inspection: Inspection, scripts: Scripts, partitions: Sequence[Keys]
    ) -> None:
        self._inspection = inspection
        self._scripts = scripts
        self._partitions = partitions

    async def page(self, query: TaskQuery, *, limit: int, cursor: str | None = None) -> TaskPage:
        """Return up to ``limit`` tasks that fit, in order, behind a cursor of the same query.

        What moves to another place between two pages may be in both of them, or in neither.

        Raises:
            InvalidTaskError: the cursor is none, or one of another query; the field is "cursor".
        """
        start = None if cursor is None else _decode(cursor, query)
        share = max(-(-CANDIDATES // len(self._partitions)), _PER_PARTITION)
        look = partial(self._look, query, start, share, limit)
        parts = await together([partial(look, keys) for keys in self._partitions])
        candidates, horizon = _merge(parts)
        readable = _readable(candidates[:limit])
        tasks = await self._read(readable)
        found: list[Found] = []
        seen = 0
        while seen < len(tasks) and len(found) < limit:
            task, position = tasks[seen], readable[seen].position
            if task is not None and query.fits(task):
                found.append(Found(task, position.score))
            seen += 1
        end = horizon if seen == len(candidates) else readable[seen - 1].position
        return TaskPage(found, None if end is None else _encode(end, query))

    async def _look(
        self, query: TaskQuery, start: _Position | None, most: int, wanted: int, keys: Keys
    ) -> _Part:
        """Look at up to ``most`` tasks of a partition, until ``wanted`` are found, step by step.

        The number of steps is bounded too: one may end early for the size of the bodies.
        """
        candidates: list[_Candidate] = []
        horizon = start
        behind = ("", "", "") if start is None else start.seen_from(keys.partition)
        while most > 0 and len(candidates) < wanted:
            step = min(STEP, most)
            most -= step
            places = query.places
            if horizon is not None:
                places = "".join(place for place in places if place >= horizon.place)
            is_whole, last, rows = await self._scripts.call(
                "search",
                [keys.meta],
                [step, wanted - len(candidates), STEP_BYTES, places, *behind, *_filters(query)],
            )
            candidates += [
                _Candidate(
                    _position(rows[at : at + 4], keys.partition),
                    rows[at + 4].decode(),
                    rows[at + 5],
                )
                for at in range(0, len(rows), _FIELDS)
            ]
            if is_whole:
                return _Part(candidates, None)
            horizon = _position(last, keys.partition)
            behind = horizon.seen_from(keys.partition)
        return _Part(candidates, horizon)

    async def _read(self, candidates: Sequence[_Candidate]) -> list[Task | None]:
        """Return the tasks of the candidates, in their order; ``None`` for one that is gone."""
        by_partition: dict[int, list[_Candidate]] = {}
        for one in candidates:
            by_partition.setdefault(one.position.partition, []).append(one)
        calls = [
            partial(self._inspection.read, self._partitions[partition], [c.digits for c in some])
            for partition, its in by_partition.items()
            for some in _steps(its)
        ]
        tasks = {task.id: task for some in await together(calls) for task in some}
        return [tasks.get(id_from_hex(one.digits)) for one in candidates]


def _filters(query: TaskQuery) -> list[str | int]:
    def text(value: int | None) -> str | int:
        return "" if value is None else int(value)

    return [
        "".join(_LETTERS[state] for state in query.states),
        query.type,
        query.queue,
        text(query.priority),
        text(query.created_from_ms),
        text(query.created_before_ms),
        query.reason,
        query.error,
        *(_encode_json(text).decode() for pair in query.metadata for text in pair),
    ]


def _position(row: Sequence[bytes], partition: int) -> _Position:
    place, first, queue, last = (part.decode() for part in row)
    return _Position(place, first, queue, last, partition)


def _merge(parts: Sequence[_Part]) -> tuple[list[_Candidate], _Position | None]:
    """Return all candidates in order, up to the place that every partition has looked at.

    That place is ``None`` when there is nothing behind in any of them.
    """
    horizons = [part.horizon for part in parts if part.horizon is not None]
    horizon = min(horizons, key=lambda position: position.order, default=None)
    merged = heapq.merge(*(part.candidates for part in parts), key=lambda c: c.position.order)
    return [c for c in merged if horizon is None or c.position.order <= horizon.order], horizon


def _readable(candidates: Sequence[_Candidate]) -> Sequence[_Candidate]:
    """Return the first candidates, so many that reading them is not too much for one call."""
    total = 0
    for count, one in enumerate(candidates):
        total += one.size
        if count and total > PAGE_BYTES:
            return candidates[:count]
    return candidates


def _steps(candidates: Sequence[_Candidate]) -> Iterator[list[_Candidate]]:
    """Yield candidates so many at a time that reading them is one short call each."""
    step: list[_Candidate] = []
    total = 0
    for one in candidates:
        total += one.size
        if step and (len(step) == STEP or total > STEP_BYTES):
            yield step
            step, total = [], one.size
        step.append(one)
    if step:
        yield step


def _mark(query: TaskQuery) -> str:
    return sha256(msgspec.json.encode(query)).hexdigest()[:8]


def _encode(position: _Position, query: TaskQuery) -> str:
    return urlsafe_b64encode(msgspec.json.encode((_mark(query), position))).decode().rstrip("=")


def _decode(cursor: str, query: TaskQuery) -> _Position:
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        mark, position = _decoder.decode(raw)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidTaskError("cursor", "is no next_cursor of an earlier answer") from None
    if mark != _mark(query):
        raise InvalidTaskError("cursor", "belongs to a list with other filters: begin without it")
    if not position.is_sound or position.place not in query.places:
        raise InvalidTaskError("cursor", "is no next_cursor of an earlier answer")
    return position
