"""The read side: tasks, depths, workers and counters, without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from taskqueue_core.broker.audit import audit
from taskqueue_core.broker.clients import Client, batch, together, translated
from taskqueue_core.broker.coalescing import Coalescer
from taskqueue_core.broker.preparation import read_servers
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.codec import split_body
from taskqueue_core.errors import NotFoundError
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import Keys, id_from_hex, id_to_hex, parse_task_id, partition_of
from taskqueue_core.models import (
    DEFAULT_QUEUE,
    Attempt,
    Depth,
    Priority,
    QueueStats,
    RunningTask,
    ServerState,
    Survey,
    Task,
    WorkerState,
    is_name,
)
from taskqueue_core.states import TERMINAL, TaskState

#: Most single tasks that are read in one call.
_TOGETHER: Final = 100
#: Most running tasks that are read of one worker.
MAX_RUNNING: Final = 200
#: Most types of held tasks that are counted in each partition.
MAX_HELD_TYPES: Final = 1_000
#: What is read of a worker's registration; the schemas are large and read apart.
_SHOWN: Final = (
    *("instance", "concurrency", "version", "queues", "handlers", "process", "started"),
    *("heartbeat", "active", "rates", "paused", "stopping"),
)

_attempt = msgspec.json.Decoder(Attempt)


class Inspection:
    """Reads of one Redis namespace."""

    def __init__(self, redis: Client, scripts: Scripts, partitions: Sequence[Keys]) -> None:
        # redis-py types answers as bytes | str, since a client may decode them; ours never do.
        self._redis: Any = redis
        self._scripts = scripts
        self._partitions = partitions
        self._reads = [
            Coalescer(partial(self._read_each, keys), most=_TOGETHER) for keys in partitions
        ]

    async def close(self) -> None:
        """End what is under way."""
        for coalescer in self._reads:
            await coalescer.close()

    async def get(self, task_id: str, *, owner: str = "") -> Task:
        """Return a task; callers that ask at the same moment share a round trip.

        Raises NotFoundError, also for an id that cannot be one, and for a task that is not one of
        ``owner``, if that is given: nobody can tell these apart.
        """
        canonical = parse_task_id(task_id)
        if canonical is None or partition_of(canonical) >= len(self._partitions):
            raise NotFoundError("task", task_id)
        item = id_to_hex(canonical), owner
        task = await self._reads[partition_of(canonical)].ask(item)
        if task is None:
            raise NotFoundError("task", task_id)
        return task

    async def read(self, keys: Keys, digits: Sequence[str], *, owner: str = "") -> list[Task]:
        """Return those of the named tasks of one partition that exist, in order.

        With ``owner`` only those that are its own.
        """
        found = await self._read_each(keys, [(name, owner) for name in digits])
        return [task for task in found if task]

    async def _read_each(self, keys: Keys, items: Sequence[tuple[str, str]]) -> list[Task | None]:
        names = [keys.meta, *(keys.task(digits) for digits, _ in items)]
        rows = await self._scripts.call("read", names, [owner for _, owner in items])
        pairs = zip(items, rows, strict=True)
        return [task_from_row(digits, row) if row[0] else None for (digits, _), row in pairs]

    async def queues(self, keys: Keys) -> list[str]:
        """Return the names of a partition's queues."""
        [names] = await self._batch([("ZRANGE", keys.queues, 0, -1)])
        return sorted(name.decode() for name in names)

    async def queue_stats(self) -> QueueStats:
        """Return how many tasks are where, over all queues and partitions."""
        calls = [partial(self._scripts.call, "depths", [keys.meta]) for keys in self._partitions]
        rows = await together(calls)
        sums = [sum(parts) for parts in zip(*(numbers for *numbers, _ in rows), strict=True)]
        paused = b"".join(digits for *_, digits in rows).decode()
        return QueueStats(
            depths={
                p: Depth(sums[2 * p], sums[2 * p + 1], str(int(p)) in paused)
                for p in reversed(Priority)
            },
            scheduled_count=sums[8],
            dead_letter_count=sums[9],
            backlog=sums[10],
        )

    async def survey(self) -> Survey:
        """Return what waits, over all queues and partitions; it costs no more when that is much."""
        calls = [
            partial(self._scripts.call, "survey", [keys.meta], [MAX_HELD_TYPES])
            for keys in self._partitions
        ]
        rows = await together(calls)
        oldest = [max(ages) for ages in zip(*(row[0] for row in rows), strict=True)]
        return Survey(
            oldest_ms={priority: max(oldest[priority], 0) for priority in reversed(Priority)},
            waiting=_add_up(queues for _, queues, _, _ in rows),
            held=_add_up(types for *_, types in rows),
            is_complete=all(2 * number == len(types) for _, _, number, types in rows),
        )

    async def servers(self) -> list[ServerState]:
        """Return what every primary server says of its memory and its append-only file."""
        return await self._scripts.attempt("info", lambda: read_servers(self._redis))

    async def workers(self) -> list[WorkerState]:
        """Return the live workers, by id."""
        keys = self._partitions[0]
        [members] = await self._batch([("ZRANGE", keys.workers, 0, -1)])
        names = sorted(member.decode() for member in members)
        rows = await self._batch([("HMGET", keys.worker(name), *_SHOWN) for name in names])
        return [_worker(name, row) for name, row in zip(names, rows, strict=True) if row[0]]

    async def worker(self, worker_id: str) -> WorkerState:
        """Return one live worker; raises NotFoundError."""
        if not is_name(worker_id):
            raise NotFoundError("worker", worker_id)
        [row] = await self._batch([("HMGET", self._partitions[0].worker(worker_id), *_SHOWN)])
        if not row[0]:
            raise NotFoundError("worker", worker_id)
        return _worker(worker_id, row)

    async def running(self, worker_id: str) -> list[RunningTask]:
        """Return what a live worker runs, the latest first, at most ``MAX_RUNNING`` tasks."""

        async def read(keys: Keys) -> list[RunningTask]:
            names = [keys.meta, keys.worker(worker_id)]
            rows = await self._scripts.call("running", names, [worker_id, MAX_RUNNING])
            return [
                RunningTask(id_from_hex(rows[at].decode()), rows[at + 1].decode(), rows[at + 2])
                for at in range(0, len(rows), 3)
            ]

        parts = await together([partial(read, keys) for keys in self._partitions])
        tasks = [task for some in parts for task in some]
        return sorted(tasks, key=lambda task: task.started_at_ms, reverse=True)[:MAX_RUNNING]

    async def handler_schemas(self, worker_id: str) -> bytes:
        """Return the JSON that a worker published of its handlers' schemas; ``{}`` without."""
        [found] = await self._batch([("HGET", self._partitions[0].worker(worker_id), "schemas")])
        return found or b"{}"

    async def attempts(self, task_id: str, *, owner: str = "") -> list[Attempt]:
        """Return the latest failed attempts of a task, oldest first; raises as ``get`` does."""
        canonical = parse_task_id(task_id)
        if canonical is None or partition_of(canonical) >= len(self._partitions):
            raise NotFoundError("task", task_id)
        keys, digits = self._partitions[partition_of(canonical)], id_to_hex(canonical)
        [state, whose], records = await self._batch(
            [("HMGET", keys.task(digits), "s", "O"), ("LRANGE", keys.history(digits), 0, -1)]
        )
        if state is None or (owner and (whose or b"").decode() != owner):
            raise NotFoundError("task", task_id)
        return [_attempt.decode(record) for record in records]

    async def stats(self) -> dict[str, int]:
        """Return the fleet's counters; ``taskqueue_core.metrics`` names the fields."""
        sums: dict[str, int] = {}
        for row in await self._batch([("HGETALL", keys.stats) for keys in self._partitions]):
            for name, value in row.items():
                sums[name.decode()] = sums.get(name.decode(), 0) + int(value)
        return sums

    async def audit(self) -> list[str]:
        """Return what is not in its place, a sentence each; see ``audit``."""
        with translated():
            return await audit(self._redis, self._partitions)

    async def _batch(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        return await self._scripts.attempt("inspect", lambda: batch(self._redis, commands))


def _add_up(rows: Iterable[Sequence[Any]]) -> dict[str, int]:
    """Return the sums by name of rows that are names and numbers in turn."""
    sums: dict[str, int] = {}
    for row in rows:
        for name, number in zip(row[::2], row[1::2], strict=True):
            sums[name.decode()] = sums.get(name.decode(), 0) + number
    return sums


def task_from_row(digits: str, row: Sequence[object]) -> Task:
    """Return the task in one answer of ``read.lua``."""
    flat, body, value = row
    assert isinstance(flat, list)
    assert isinstance(body, bytes)
    assert isinstance(value, bytes)
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    state = STATE_LETTERS[fields[b"s"].decode()]
    created = _number(fields, b"c") or int(fields[b"m"].partition(b"-")[0])
    started, ended = _number(fields, b"g"), _number(fields, b"e")
    payload, metadata, traceparent = split_body(body) if body else (b"{}", b"", "")
    is_completed = state is TaskState.COMPLETED
    return Task(
        id=id_from_hex(digits),
        type=fields[b"y"].decode(),
        queue=fields.get(b"q", DEFAULT_QUEUE.encode()).decode(),
        priority=Priority(int(fields.get(b"p", b"1"))),
        state=state,
        created_at_ms=created,
        updated_at_ms=max(created, started or 0, ended or 0, _number(fields, b"u") or 0),
        attempts=int(fields.get(b"a", b"0")),
        deliveries=int(fields.get(b"f", b"0").partition(b":")[0]),
        lost_leases=int(fields.get(b"l", b"0")),
        max_retries=_number(fields, b"r"),
        timeout_seconds=_number(fields, b"t"),
        payload=payload,
        metadata=metadata,
        result=value if is_completed else b"",
        error="" if is_completed else value.decode("utf-8", "replace"),
        worker_id=fields.get(b"w", b"").decode(),
        started_at_ms=started,
        completed_at_ms=ended if state in TERMINAL else None,
        scheduled_at_ms=_number(fields, b"n" if state is TaskState.RETRYING else b"z"),
        next_retry_at_ms=_number(fields, b"n") if state is TaskState.RETRYING else None,
        is_held=state is TaskState.SCHEDULED and b"i" in fields,
        reason=fields.get(b"k", b"").decode(),
        owner=fields.get(b"O", b"").decode(),
        is_cancel_requested=b"X" in fields,
        traceparent=traceparent,
    )


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int | None:
    value = fields.get(name)
    return None if value is None else int(value)


def _worker(worker_id: str, values: Sequence[bytes | None]) -> WorkerState:
    row = {name: value for name, value in zip(_SHOWN, values, strict=True) if value is not None}
    # A worker of an older version says nothing of its slots.
    rates = [*map(float, row.get("rates", b"").split()), 0.0, 0.0, 0.0, 0.0]
    active = int(row.get("active", b"0"))
    if row.get("stopping") == b"1":
        state = "shutting_down"
    elif row.get("paused") == b"1":
        state = "paused"
    else:
        state = "busy" if active else "idle"
    return WorkerState(
        id=worker_id,
        instance=row["instance"].decode(),
        state=state,
        started_at_ms=int(row["started"]),
        last_heartbeat_ms=int(row["heartbeat"]),
        active_tasks=active,
        concurrency=int(row["concurrency"]),
        version=row["version"].decode(),
        queues=tuple(msgspec.json.decode(row["queues"])),
        handlers=row["handlers"],
        process=row.get("process", b"").decode(),
        completed_per_second=rates[0],
        failed_per_second=rates[1],
        busy_seconds=rates[2],
        idle_seconds=rates[3],
    )
