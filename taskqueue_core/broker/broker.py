"""The broker: one method for every change of a task's state, each one atomic script.

Callers may repeat any call whose answer was lost. Methods for clients take a task id and find its
partition in it; methods for workers take the partition they serve.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

from redis.asyncio import Redis

from taskqueue_core.broker.clients import open_redis, translated
from taskqueue_core.broker.feed import BLOCK_SECONDS, EventFeed
from taskqueue_core.broker.inspection import Inspection
from taskqueue_core.broker.scripts import Argument, Limits, Scripts
from taskqueue_core.broker.sessions import WorkerSession
from taskqueue_core.codec import encode_body
from taskqueue_core.errors import (
    CapacityError,
    InvalidTaskError,
    NotFoundError,
    SchemaError,
    StateConflictError,
    TaskQueueError,
)
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import Keys, id_to_hex, new_task_id, parse_task_id, partition_of
from taskqueue_core.models import NewTask, Priority, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.states import CANCELLABLE, RETRYABLE, TaskState

#: Version of the data model that ``lua/README.md`` describes.
SCHEMA = 1

#: Most tasks in one script call: longer ones would keep other clients waiting.
BATCH = 100

_BACKLOG_FULL, _TOO_MANY_QUEUES = -1, -2


class Broker:
    """The queue in one Redis namespace, for submitting, steering and reading tasks."""

    def __init__(self, redis: Redis, settings: Settings, *, clock: str | None = None) -> None:
        self.redis = redis
        self.settings = settings
        self.partitions = [
            Keys(settings.queue.namespace, number) for number in range(settings.queue.partitions)
        ]
        self.scripts = Scripts(redis, Limits.from_settings(settings), clock=clock)
        self.inspection = Inspection(redis, self.scripts, self.partitions)

    async def prepare(self) -> None:
        """Check Redis and claim the namespace on its first use; repeat until it succeeds.

        Raises:
            BrokerUnavailableError: Redis cannot be reached.
            SchemaError: the namespace has another schema or number of partitions, or Redis is set
                to evict keys, which would lose tasks without a word.
        """
        count = len(self.partitions)
        with translated():
            for keys in self.partitions:
                await self.redis.hsetnx(keys.meta, "schema", SCHEMA)
                await self.redis.hsetnx(keys.meta, "partitions", count)
            first = self.partitions[0].meta
            claim = await self.redis.hmget(first, ["schema", "partitions"])
            memory = await self.redis.info("memory")
        schema, made_with = (int(value or 0) for value in claim)
        namespace = self.settings.queue.namespace
        if schema != SCHEMA:
            raise SchemaError(
                f"namespace {namespace} has schema {schema}, this version needs {SCHEMA}: "
                "use the taskqueue version that made it, or another queue.namespace"
            )
        if made_with != count:
            raise SchemaError(
                f"namespace {namespace} was made with {made_with} partitions, not {count}: "
                f"set queue.partitions to {made_with}, or use another queue.namespace"
            )
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise SchemaError(
                f"Redis has maxmemory-policy {policy} and would evict tasks when it is full: "
                "set it to noeviction"
            )

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    def event_feed(self) -> EventFeed:
        """Return a reader of the namespace's events, with a connection of its own."""
        return EventFeed(open_redis(self.settings, blocks_seconds=BLOCK_SECONDS), self.partitions)

    def new_task_id(self) -> str:
        """Return an id for a task to submit, in a random partition."""
        return new_task_id(random.randrange(len(self.partitions)))  # noqa: S311 (spreads load)

    def session(self, worker_id: str, instance: str, partition: int = 0) -> WorkerSession:
        """Return a worker's side of the broker, for one partition."""
        return WorkerSession(self.scripts, self.partitions[partition], worker_id, instance)

    async def ping(self) -> None:
        """Ask Redis for an answer; raises BrokerUnavailableError without one."""
        with translated():
            await self.redis.ping()

    async def submit(self, task: NewTask) -> Submitted:
        """Store a new task; submitting the same id again gives the same answer.

        Raises:
            CapacityError: the backlog limit is reached.
            InvalidTaskError: the task names one queue more than there may be.
        """
        answer = (await self.submit_many([task]))[0]
        if isinstance(answer, TaskQueueError):
            raise answer
        return answer

    async def submit_many(self, tasks: Sequence[NewTask]) -> list[Submitted | TaskQueueError]:
        """Store new tasks, one round trip for up to 100 of a partition; answers in their order.

        A task that is refused does not hold up the others.
        """
        answers: dict[str, Submitted | TaskQueueError] = {}
        groups: dict[int, list[NewTask]] = {}
        for task in tasks:
            groups.setdefault(partition_of(task.id), []).append(task)
        for partition, group in groups.items():
            for start in range(0, len(group), BATCH):
                chunk = group[start : start + BATCH]
                answers.update(await self._submit_chunk(self.partitions[partition], chunk))
        return [answers[task.id] for task in tasks]

    async def _submit_chunk(
        self, keys: Keys, tasks: Sequence[NewTask]
    ) -> dict[str, Submitted | TaskQueueError]:
        task_keys = [keys.meta]
        values: list[Argument] = [len(tasks)]
        for task in tasks:
            digits = id_to_hex(task.id)
            task_keys.append(keys.task(digits))
            values += (
                digits,
                task.type,
                task.queue,
                int(task.priority),
                _optional(task.max_retries),
                _optional(task.timeout_seconds),
                _optional(task.scheduled_at_ms),
                encode_body(task.payload, task.metadata),
            )
        reply = await self.scripts.call("submit", task_keys, values)
        codes = zip(tasks, reply[::2], reply[1::2], strict=True)
        return {task.id: self._submitted(task, code, created) for task, code, created in codes}

    def _submitted(self, task: NewTask, code: int, created_ms: int) -> Submitted | TaskQueueError:
        if code == _BACKLOG_FULL:
            return CapacityError(self.settings.queue.max_queue_size)
        if code == _TOO_MANY_QUEUES:
            limit = self.settings.queue.max_queues
            return InvalidTaskError("queue", f"there are {limit} queues already; use one of them")
        state = TaskState.PENDING if code == 1 else TaskState.SCHEDULED
        return Submitted(task.id, state, created_ms)

    async def cancel(self, task_id: str) -> None:
        """Cancel a task that is pending, scheduled or retrying.

        Raises:
            NotFoundError: no such task.
            StateConflictError: its state is another one; nothing changed.
        """
        keys, digits = self.locate(task_id)
        letter = await self.scripts.call(
            "cancel", [keys.meta, keys.task(digits)], [digits, secrets.token_hex(8)]
        )
        _check_letter(letter, task_id, "cancelled", CANCELLABLE)

    async def retry(
        self, task_id: str, *, only_dead: bool = False, message_id: str | None = None
    ) -> None:
        """Send an ended task back to its queue, its attempts starting again at 0.

        With ``only_dead`` any task but a dead letter, and with ``message_id`` any death of it but
        that one, is a NotFoundError. Raises StateConflictError unless the task is failed,
        dead_letter or cancelled.
        """
        try:
            keys, digits = self.locate(task_id)
            letter = await self.scripts.call(
                "retry",
                [keys.meta, keys.task(digits)],
                [digits, secrets.token_hex(8), int(only_dead), message_id or ""],
            )
            _check_letter(letter, task_id, "retried", RETRYABLE)
        except NotFoundError:
            raise NotFoundError("dead letter" if only_dead else "task", task_id) from None

    async def redrive(self) -> int:
        """Send every dead letter back to its queue; those that die meanwhile stay. The count."""
        return await self._sweep_dead_letters("redrive", secrets.token_hex(8))

    async def clear(self) -> int:
        """Give every dead letter up: it becomes failed and is deleted in time. The count."""
        return await self._sweep_dead_letters("clear")

    async def _sweep_dead_letters(self, script: str, *arguments: str) -> int:
        total = 0
        for keys in self.partitions:
            before: str | int = ""
            moved = BATCH
            while moved == BATCH:
                moved, before = await self.scripts.call(
                    script, [keys.meta], [before, BATCH, *arguments]
                )
                total += moved
        return total

    async def purge(self, priority: Priority) -> int:
        """Cancel the tasks that wait at a priority, in all queues, at this moment. The count."""
        total = 0
        for keys in self.partitions:
            for queue in await self.inspection.queues(keys):
                start, before = b"-", ""
                while start:
                    start, cancelled, before = await self.scripts.call(
                        "purge",
                        [keys.meta, keys.stream(queue, priority)],
                        [start, before, BATCH],
                    )
                    total += cancelled
        return total

    async def pause(self, worker_id: str) -> None:
        """Stop a worker from taking tasks, from this moment on; raises NotFoundError."""
        await self._set_paused(worker_id, 1)

    async def resume(self, worker_id: str) -> None:
        """Let a paused worker take tasks again; raises NotFoundError."""
        await self._set_paused(worker_id, 0)

    async def _set_paused(self, worker_id: str, paused: int) -> None:
        found = [
            await self.scripts.call(
                "pause",
                [keys.meta, keys.worker(worker_id), keys.control(worker_id)],
                [worker_id, paused],
            )
            for keys in self.partitions
        ]
        if not any(found):
            raise NotFoundError("worker", worker_id)

    async def promote(self, partition: int = 0) -> tuple[int, int | None]:
        """Move due tasks to their queues: how many, and the ms until the next is due."""
        keys = self.partitions[partition]
        moved, next_due = await self.scripts.call("promote", [keys.meta], [BATCH])
        return moved, None if next_due < 0 else next_due

    async def retain(self, partition: int = 0) -> int:
        """Delete up to 100 ended tasks whose time is over; the number deleted."""
        keys = self.partitions[partition]
        return int(await self.scripts.call("retain", [keys.meta], [BATCH]))

    async def expel(self, worker_id: str, partition: int = 0) -> bool:
        """Remove a worker whose registration has expired and whose tasks were recovered."""
        keys = self.partitions[partition]
        removed = await self.scripts.call(
            "deregister",
            [keys.meta, keys.worker(worker_id), keys.control(worker_id)],
            [worker_id, ""],
        )
        return bool(removed)

    def locate(self, task_id: str) -> tuple[Keys, str]:
        """Return the keys of a task's partition and the id's digits; raises NotFoundError."""
        canonical = parse_task_id(task_id)
        if canonical is None or partition_of(canonical) >= len(self.partitions):
            raise NotFoundError("task", task_id)
        return self.partitions[partition_of(canonical)], id_to_hex(canonical)


def _optional(value: int | None) -> str | int:
    return "" if value is None else value


def _check_letter(letter: bytes, task_id: str, action: str, allowed: frozenset[TaskState]) -> None:
    if letter == b"-":
        raise NotFoundError("task", task_id)
    if letter:
        names = ", ".join(state for state in TaskState if state in allowed)
        raise StateConflictError(task_id, STATE_LETTERS[letter.decode()], action, names)
