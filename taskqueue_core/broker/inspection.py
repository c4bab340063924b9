"""The read side: tasks, depths, workers, dead letters and counters, without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from taskqueue_core.broker.audit import audit
from taskqueue_core.broker.clients import Client, attempted, batch, together, translated
from taskqueue_core.broker.scripts import Scripts
from taskqueue_core.codec import split_body
from taskqueue_core.errors import NotFoundError
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import Keys, id_from_hex, id_to_hex, parse_task_id, partition_of
from taskqueue_core.models import (
    DEFAULT_QUEUE,
    DeadLetter,
    Depth,
    Priority,
    QueueStats,
    Task,
    WorkerState,
    is_name,
)
from taskqueue_core.states import TERMINAL, TaskState


class Inspection:
    """Reads of one Redis namespace."""

    def __init__(self, redis: Client, scripts: Scripts, partitions: Sequence[Keys]) -> None:
        # redis-py types answers as bytes | str, since a client may decode them; ours never do.
        self._redis: Any = redis
        self._scripts = scripts
        self._partitions = partitions

    async def get(self, task_id: str) -> Task:
        """Return a task; raises NotFoundError, also for an id that cannot be one."""
        canonical = parse_task_id(task_id)
        if canonical is None or partition_of(canonical) >= len(self._partitions):
            raise NotFoundError("task", task_id)
        keys = self._partitions[partition_of(canonical)]
        tasks = await self.read(keys, [id_to_hex(canonical)])
        if not tasks:
            raise NotFoundError("task", task_id)
        return tasks[0]

    async def read(self, keys: Keys, digits: Sequence[str]) -> list[Task]:
        """Return those of the named tasks of one partition that exist, in order."""
        rows = await self._scripts.call("read", [keys.meta, *map(keys.task, digits)])
        return [task_from_row(name, row) for name, row in zip(digits, rows, strict=True) if row[0]]

    async def queues(self, keys: Keys) -> list[str]:
        """Return the names of a partition's queues."""
        [names] = await self._batch([("ZRANGE", keys.queues, 0, -1)])
        return sorted(name.decode() for name in names)

    async def queue_stats(self) -> QueueStats:
        """Return how many tasks are where, over all queues and partitions."""
        calls = [partial(self._scripts.call, "depths", [keys.meta]) for keys in self._partitions]
        sums = [sum(parts) for parts in zip(*await together(calls), strict=True)]
        return QueueStats(
            depths={p: Depth(sums[2 * p], sums[2 * p + 1]) for p in reversed(Priority)},
            scheduled_count=sums[8],
            dead_letter_count=sums[9],
            backlog=sums[10],
        )

    async def workers(self) -> list[WorkerState]:
        """Return the live workers, by id."""
        keys = self._partitions[0]
        [members] = await self._batch([("ZRANGE", keys.workers, 0, -1)])
        names = sorted(member.decode() for member in members)
        rows = await self._batch([("HGETALL", keys.worker(name)) for name in names])
        return [_worker(name, row) for name, row in zip(names, rows, strict=True) if row]

    async def worker(self, worker_id: str) -> WorkerState:
        """Return one live worker; raises NotFoundError."""
        if not is_name(worker_id):
            raise NotFoundError("worker", worker_id)
        [row] = await self._batch([("HGETALL", self._partitions[0].worker(worker_id))])
        if not row:
            raise NotFoundError("worker", worker_id)
        return _worker(worker_id, row)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Return the latest dead letters of all partitions, newest first."""
        calls = [partial(self._dead_letters, keys, limit) for keys in self._partitions]
        letters = [letter for some in await together(calls) for letter in some]
        letters.sort(key=lambda letter: letter.added_at_ms, reverse=True)
        return letters[:limit]

    async def _dead_letters(self, keys: Keys, limit: int) -> list[DeadLetter]:
        members = await attempted(
            self._redis,
            self._scripts.retries,
            lambda: self._redis.zrange(keys.dead_letters, 0, limit - 1, desc=True, withscores=True),
        )
        died_at = {id_from_hex(name.decode()): int(score) for name, score in members}
        tasks = await self.read(keys, [name.decode() for name, _ in members])
        return [DeadLetter(task=task, added_at_ms=died_at[task.id]) for task in tasks]

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
        return await attempted(
            self._redis, self._scripts.retries, lambda: batch(self._redis, commands)
        )


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
    payload, metadata = split_body(body) if body else (b"{}", b"")
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
        reason=fields.get(b"k", b"").decode(),
    )


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int | None:
    value = fields.get(name)
    return None if value is None else int(value)


def _worker(worker_id: str, row: Mapping[bytes, bytes]) -> WorkerState:
    active = int(row.get(b"active", b"0"))
    if row.get(b"stopping") == b"1":
        state = "shutting_down"
    elif row.get(b"paused") == b"1":
        state = "paused"
    else:
        state = "busy" if active else "idle"
    return WorkerState(
        id=worker_id,
        instance=row[b"instance"].decode(),
        state=state,
        started_at_ms=int(row[b"started"]),
        last_heartbeat_ms=int(row[b"heartbeat"]),
        active_tasks=active,
        concurrency=int(row[b"concurrency"]),
        version=row[b"version"].decode(),
        queues=tuple(msgspec.json.decode(row[b"queues"])),
        handlers=row[b"handlers"],
    )
