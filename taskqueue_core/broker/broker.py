"""The broker: one method for every change of a task's state, each one atomic script.

Callers may repeat any call whose answer was lost. Methods for clients take a task id and find its
partition in it; methods for workers take the partition they serve.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from functools import partial

from taskqueue_core.broker.access import ApiKeys
from taskqueue_core.broker.admission import Admission
from taskqueue_core.broker.clients import (
    Client,
    attempted,
    batch,
    close_redis,
    open_redis,
    together,
    translated,
)
from taskqueue_core.broker.dead_letters import DeadLetterFilter, DeadLetters
from taskqueue_core.broker.feed import BLOCK_SECONDS, EventFeed
from taskqueue_core.broker.history import EventHistory
from taskqueue_core.broker.idempotency import IdempotencyKey
from taskqueue_core.broker.inspection import Inspection
from taskqueue_core.broker.intake import BATCH, Intake
from taskqueue_core.broker.preparation import check_servers, claim
from taskqueue_core.broker.priorities import Priorities
from taskqueue_core.broker.repair import repair
from taskqueue_core.broker.scripts import Confirmation, Limits, Scripts
from taskqueue_core.broker.search import Search
from taskqueue_core.broker.sessions import WorkerSession
from taskqueue_core.codec import encode_body
from taskqueue_core.errors import (
    BrokerUnavailableError,
    NotFoundError,
    StateConflictError,
    TaskQueueError,
)
from taskqueue_core.events import STATE_LETTERS
from taskqueue_core.keys import Keys, id_to_hex, new_task_id, parse_task_id, partition_of
from taskqueue_core.models import NewTask, Priority, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.states import CANCELLABLE, RETRYABLE, TaskState
from taskqueue_core.tracing import find_spans


class Broker:
    """The queue in one Redis namespace, for submitting, steering and reading tasks."""

    def __init__(self, redis: Client, settings: Settings, *, clock: str | None = None) -> None:
        self.redis = redis
        self.settings = settings
        self.partitions = [
            Keys(settings.queue.namespace, number) for number in range(settings.queue.partitions)
        ]
        limits = Limits.from_settings(settings)
        self.scripts = Scripts(redis, limits, clock=clock, retries=settings.redis.max_retries)
        self.inspection = Inspection(redis, self.scripts, self.partitions)
        self.search = Search(self.inspection, self.scripts, self.partitions)
        self.dead_letters = DeadLetters(redis, self.search, self.scripts, self.partitions)
        self.priorities = Priorities(self.inspection, self.scripts, self.partitions)
        self.api_keys = ApiKeys(redis, settings)
        self.history = EventHistory(self.scripts, self.partitions)
        self.admission = Admission(self.scripts, self.partitions)
        self._intake = Intake(redis, self.scripts, self.partitions, settings)
        self._spans = find_spans(enabled=settings.tracing.enabled)
        self.scripts.confirmation = Confirmation.from_settings(settings)

    async def prepare(self) -> None:
        """Check Redis and claim the namespace on its first use; repeat until it succeeds.

        Raises:
            BrokerUnavailableError: Redis cannot be reached.
            SchemaError: the namespace has another schema or number of partitions, or Redis would
                lose tasks: it is set to evict keys, or cannot do what ``queue.durability`` says.
        """
        retries = self.scripts.retries
        is_on_disk = await attempted(
            self.redis, retries, lambda: check_servers(self.redis, self.settings)
        )
        if is_on_disk:
            self.scripts.confirmation = None
        await attempted(self.redis, retries, lambda: claim(self.redis, self.partitions))

    async def close(self) -> None:
        """End what is under way and close the connections."""
        for part in (self._intake, self.admission, self.inspection):
            await part.close()
        await close_redis(self.redis)

    def event_feed(self) -> EventFeed:
        """Return a reader of the namespace's events, with a connection of its own."""
        return EventFeed(open_redis(self.settings, blocks_seconds=BLOCK_SECONDS), self.partitions)

    def new_task_id(self) -> str:
        """Return an id for a task to submit, in a random partition."""
        return self.new_task_ids(1)[0]

    def new_task_ids(self, count: int) -> list[str]:
        """Return ids for tasks to submit together: each hundred in a random partition."""
        ids: list[str] = []
        while len(ids) < count:
            partition = random.randrange(len(self.partitions))  # noqa: S311 (spreads load)
            ids += [new_task_id(partition) for _ in range(min(BATCH, count - len(ids)))]
        return ids

    def session(self, worker_id: str, instance: str, partition: int = 0) -> WorkerSession:
        """Return a worker's side of the broker, for one partition."""
        return WorkerSession(self.scripts, self.partitions[partition], worker_id, instance)

    async def ping(self) -> None:
        """Ask Redis for an answer; raises BrokerUnavailableError when no partition has one."""
        *others, last = self.partitions
        for keys in others:
            with contextlib.suppress(BrokerUnavailableError), translated():
                await self.redis.exists(keys.meta)
                return
        with translated():
            await self.redis.exists(last.meta)

    async def event_positions(self) -> dict[int, int]:
        """Return the number of the latest event of each partition."""
        commands = [("HGET", keys.meta, "events") for keys in self.partitions]
        numbers = await self.scripts.attempt("events", lambda: batch(self.redis, commands))
        pairs = zip(self.partitions, numbers, strict=True)
        return {keys.partition: int(number or 0) for keys, number in pairs}

    async def submit(self, task: NewTask, *, may_move: bool = False) -> Submitted:
        """Store a new task; submitting the same id again gives the same answer.

        Tasks of callers that come at the same moment share a round trip. With ``may_move`` a task
        whose partition is full goes to another one, under a new id that the answer names, unless
        it has an idempotency key. The caller must not repeat such a submission: by its old id it
        would be another task.

        Raises:
            CapacityError: the backlog limit is reached, here or, if it may move, everywhere.
            InvalidTaskError: the task names one queue more than there may be.
            IdempotencyError: its key was used for another request.
            BrokerUnavailableError: Redis does not answer, or does not confirm in time that the
                task is as safe as ``queue.durability`` says. It may be stored; repeat this.
        """
        if self._spans is None:
            return _accepted(await self._intake.submit(task, may_move=may_move))
        with self._spans.submission([task]) as sent:
            submitted = _accepted(await self._intake.submit(sent.tasks[0], may_move=may_move))
            sent.became(submitted.id)
            return submitted

    async def submit_many(
        self, tasks: Sequence[NewTask], *, may_move: bool = False
    ) -> list[Submitted | TaskQueueError]:
        """Store new tasks, one round trip for up to 100 of a partition; answers in their order.

        A task that is refused does not hold up the others, and nor does a partition whose server
        fails: its tasks are answered with that error, which is raised when there is no other.
        """
        if self._spans is None or not tasks:
            return await self._intake.submit_many(tasks, may_move=may_move)
        with self._spans.submission(tasks) as sent:
            return await self._intake.submit_many(sent.tasks, may_move=may_move)

    def idempotency_key(self, key: str, body: bytes, *, owner: str = "") -> IdempotencyKey:
        """Return the key of a request that may be sent again; it gives tasks their ids."""
        return IdempotencyKey(key, body, owner=owner, partitions=len(self.partitions))

    async def find_repeats(self, tasks: Sequence[NewTask]) -> list[Submitted | None]:
        """Return what tasks with an idempotency key became when they were submitted before.

        Nothing is stored; ``None`` stands for a task that is new.

        Raises:
            IdempotencyError: their key was used for another request.
            BrokerError: nobody knows.
        """
        return await self._intake.find_repeats(tasks)

    async def cancel(self, task_id: str, *, owner: str = "", running: bool = False) -> bool:
        """Cancel a task that is pending, scheduled or retrying; tell whether it is cancelled.

        With ``running`` the worker of a task that runs is asked to stop it, which is False: it ends
        as cancelled unless it is completed all the same.

        Raises:
            NotFoundError: no such task, or not one of ``owner``, if that is given.
            StateConflictError: its state is another one; nothing changed.
        """
        keys, digits = self.locate(task_id)
        letter = await self.scripts.call(
            "cancel",
            [keys.meta, keys.task(digits)],
            [digits, secrets.token_hex(8), owner, int(running)],
        )
        if letter == b"+":
            return False
        hint = "; with running=true a running one is asked to stop" if letter == b"r" else ""
        _check_letter(letter, task_id, "cancelled", CANCELLABLE, hint)
        return True

    async def retry(
        self,
        task_id: str,
        *,
        only_dead: bool = False,
        message_id: str | None = None,
        payload: bytes = b"",
    ) -> None:
        """Send an ended task back to its queue, its attempts starting again at 0.

        With ``only_dead`` any task but a dead letter, and with ``message_id`` any death of it but
        that one, is a NotFoundError. With ``payload``, a JSON object, it runs with that from now
        on. Raises StateConflictError unless the task is failed, dead_letter or cancelled.
        """
        try:
            keys, digits = self.locate(task_id)
            body = b""
            if payload:
                # Nothing ever changes a task's metadata or trace, so they may be read before.
                task = await self.inspection.get(task_id)
                body = encode_body(payload, task.metadata, task.traceparent)
            letter = await self.scripts.call(
                "retry",
                [keys.meta, keys.task(digits)],
                [digits, secrets.token_hex(8), int(only_dead), message_id or "", body],
            )
            _check_letter(letter, task_id, "retried", RETRYABLE)
        except NotFoundError:
            raise NotFoundError("dead letter" if only_dead else "task", task_id) from None

    async def redrive(self, wanted: DeadLetterFilter | None = None) -> int:
        """Send dead letters back to their queues, all or those wanted; see ``DeadLetters``."""
        return await self.dead_letters.redrive(wanted or DeadLetterFilter())

    async def clear(self) -> int:
        """Give every dead letter up: it becomes failed and is deleted in time. The count."""
        return await self.dead_letters.clear()

    async def purge(self, priority: Priority) -> int:
        """Cancel the tasks that wait at a priority, in all queues, at this moment. The count."""
        return await self.priorities.purge(priority)

    async def pause(self, worker_id: str) -> None:
        """Stop a worker from taking tasks, from this moment on; raises NotFoundError."""
        await self._set_paused(worker_id, 1)

    async def resume(self, worker_id: str) -> None:
        """Let a paused worker take tasks again; raises NotFoundError."""
        await self._set_paused(worker_id, 0)

    async def _set_paused(self, worker_id: str, paused: int) -> None:
        calls = [
            partial(
                self.scripts.call,
                "pause",
                [keys.meta, keys.worker(worker_id), keys.control(worker_id)],
                [worker_id, paused],
            )
            for keys in self.partitions
        ]
        if not any(await together(calls)):
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

    def repair(self) -> AsyncIterator[str]:
        """Put back what ``inspection.audit`` finds out of place; yield a sentence per repair."""
        return repair(self.redis, self.scripts, self.partitions)

    def locate(self, task_id: str) -> tuple[Keys, str]:
        """Return the keys of a task's partition and the id's digits; raises NotFoundError."""
        canonical = parse_task_id(task_id)
        if canonical is None or partition_of(canonical) >= len(self.partitions):
            raise NotFoundError("task", task_id)
        return self.partitions[partition_of(canonical)], id_to_hex(canonical)


def _accepted(answer: Submitted | TaskQueueError) -> Submitted:
    if isinstance(answer, TaskQueueError):
        raise answer
    return answer


def _check_letter(
    letter: bytes, task_id: str, action: str, allowed: frozenset[TaskState], hint: str = ""
) -> None:
    if letter == b"-":
        raise NotFoundError("task", task_id)
    if letter:
        names = ", ".join(state for state in TaskState if state in allowed)
        raise StateConflictError(task_id, STATE_LETTERS[letter.decode()], action, names, hint)
