"""Submissions: which partition takes a task, in how many calls, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from taskqueue_core.broker.clients import Client, attempted, batch, together
from taskqueue_core.broker.coalescing import Coalescer
from taskqueue_core.broker.scripts import Argument, Limits, Scripts
from taskqueue_core.codec import encode_body, parse_traceparent
from taskqueue_core.errors import (
    BrokerError,
    CapacityError,
    IdempotencyError,
    InvalidTaskError,
    TaskQueueError,
)
from taskqueue_core.keys import Keys, id_from_hex, id_to_hex, new_task_id, partition_of
from taskqueue_core.models import NewTask, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

#: Most tasks in one script call: longer ones would keep other clients waiting.
BATCH: Final = 100

#: Calls under way for single submissions to a partition. Where each waits for a disk or a replica,
#: more of them overlap.
_AT_ONCE, _AT_ONCE_CONFIRMED = 2, 8

_PENDING, _SCHEDULED, _PENDING_BEFORE, _SCHEDULED_BEFORE = 1, 2, 3, 4
_BACKLOG_FULL, _TOO_MANY_QUEUES, _OTHER_REQUEST = -1, -2, -3

_STATES: Final = {
    _PENDING: TaskState.PENDING,
    _PENDING_BEFORE: TaskState.PENDING,
    _SCHEDULED: TaskState.SCHEDULED,
    _SCHEDULED_BEFORE: TaskState.SCHEDULED,
}

#: What a submission comes to.
Answer = Submitted | TaskQueueError

#: A task and the script's arguments for it, made by whoever asks: what cannot be one fails there.
_Prepared = tuple[NewTask, tuple[bytes, ...]]


class Intake:
    """Takes submissions into their partitions, which it asks at the same time."""

    def __init__(
        self, redis: Client, scripts: Scripts, partitions: Sequence[Keys], settings: Settings
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._partitions = partitions
        self._limits = settings.queue
        self._room = Limits.from_settings(settings).max_backlog
        is_confirmed = settings.queue.durability != "process"
        self._singles = [
            Coalescer(
                partial(self._call, keys),
                most=BATCH,
                at_once=_AT_ONCE_CONFIRMED if is_confirmed else _AT_ONCE,
                weigh=_weigh,
            )
            for keys in partitions
        ]
        self._backlogs = Coalescer(self._read_backlogs, most=BATCH, at_once=1)

    async def close(self) -> None:
        """End what is under way."""
        for coalescer in self._singles:
            await coalescer.close()
        await self._backlogs.close()

    async def submit(self, task: NewTask, *, may_move: bool) -> Answer:
        """Store a task, together with others that come at this moment."""
        answer = await self._singles[partition_of(task.id)].ask(_prepare(task))
        if may_move and _is_refused(task, answer):
            [answer] = await self._submit_elsewhere([task])
        return answer

    async def submit_many(self, tasks: Sequence[NewTask], *, may_move: bool) -> list[Answer]:
        """Store tasks, see ``Broker.submit_many``."""
        answers = await self._submit_all(tasks)
        failures = [answer for answer in answers if isinstance(answer, BrokerError)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        pairs = enumerate(zip(tasks, answers, strict=True))
        refused = [at for at, pair in pairs if _is_refused(*pair)] if may_move else []
        if refused:
            moved = await self._submit_elsewhere([tasks[at] for at in refused])
            for at, answer in zip(refused, moved, strict=True):
                answers[at] = answer
        return answers

    async def find_repeats(self, tasks: Sequence[NewTask]) -> list[Submitted | None]:
        """Return what became of tasks when they were submitted, see ``Broker.find_repeats``."""
        found: list[Submitted | None] = []
        for answer in await self._submit_all(tasks, is_repeat=True):
            if isinstance(answer, IdempotencyError | BrokerError):
                raise answer
            found.append(answer if isinstance(answer, Submitted) else None)
        return found

    async def _submit_elsewhere(self, tasks: Sequence[NewTask]) -> list[Answer]:
        """Submit tasks whose partition is full to the others, each once, the emptiest first."""
        answers: list[Answer] = [CapacityError(self._limits.max_queue_size)] * len(tasks)
        try:
            backlogs = await self._backlogs.ask(None)
        except BrokerError:
            return answers
        left = list(range(len(tasks)))
        for partition in sorted(range(len(backlogs)), key=backlogs.__getitem__):
            if not left or backlogs[partition] >= self._room:
                break
            moved = [replace(tasks[at], id=new_task_id(partition)) for at in left]
            for at, answer in zip(left, await self._submit_all(moved), strict=True):
                answers[at] = answer
            left = [at for at in left if isinstance(answers[at], CapacityError)]
        return answers

    async def _read_backlogs(self, asked: Sequence[None]) -> list[list[int]]:
        commands = [("HGET", keys.stats, "backlog") for keys in self._partitions]
        replies = await attempted(
            self._redis, self._scripts.retries, lambda: batch(self._redis, commands)
        )
        return [[int(backlog or 0) for backlog in replies]] * len(asked)

    async def _submit_all(
        self, tasks: Sequence[NewTask], *, is_repeat: bool = False
    ) -> list[Answer]:
        if len(tasks) == 1 and not is_repeat:
            try:
                return [await self.submit(tasks[0], may_move=False)]
            except BrokerError as error:
                return [error]
        groups: dict[int, list[int]] = {}
        for at, task in enumerate(tasks):
            groups.setdefault(partition_of(task.id), []).append(at)
        calls = [
            partial(self._submit_group, number, [tasks[at] for at in group], is_repeat=is_repeat)
            for number, group in groups.items()
        ]
        answers: dict[int, Answer] = {}
        for group, some in zip(groups.values(), await together(calls), strict=True):
            answers.update(zip(group, some, strict=True))
        return [answers[at] for at in range(len(tasks))]

    async def _submit_group(
        self, partition: int, tasks: Sequence[NewTask], *, is_repeat: bool
    ) -> list[Answer]:
        answers: list[Answer] = []
        prepared = [_prepare(task) for task in tasks]
        for start in range(0, len(tasks), BATCH):
            chunk = prepared[start : start + BATCH]
            try:
                answers += await self._call(self._partitions[partition], chunk, is_repeat=is_repeat)
            except BrokerError as error:
                return answers + [error] * (len(tasks) - start)
        return answers

    async def _call(
        self, keys: Keys, prepared: Sequence[_Prepared], *, is_repeat: bool = False
    ) -> list[Answer]:
        named = [keys.meta]
        values: list[Argument] = [len(prepared), int(is_repeat)]
        for task, arguments in prepared:
            named.append(keys.task(id_to_hex(task.id)))
            values += arguments
        named += [keys.idempotency(t.idempotency.record) for t, _ in prepared if t.idempotency]
        reply = await self._scripts.call("submit", named, values)
        rows = zip(prepared, reply[::3], reply[1::3], reply[2::3], strict=True)
        return [self._answer(task, code, created, name) for (task, _), code, created, name in rows]

    def _answer(self, task: NewTask, code: int, created_ms: int, name: bytes) -> Answer:
        if code == _BACKLOG_FULL:
            return CapacityError(self._limits.max_queue_size)
        if code == _TOO_MANY_QUEUES:
            limit = self._limits.max_queues
            return InvalidTaskError("queue", f"there are {limit} queues already; use one of them")
        if code == _OTHER_REQUEST:
            return IdempotencyError()
        task_id = id_from_hex(name.decode()) if name else task.id
        is_repeat = code in (_PENDING_BEFORE, _SCHEDULED_BEFORE)
        return Submitted(task_id, _STATES[code], created_ms, is_repeat)


def _prepare(task: NewTask) -> _Prepared:
    traceparent = parse_traceparent(task.traceparent) if task.traceparent else ""
    return task, (
        id_to_hex(task.id).encode(),
        task.type.encode(),
        task.queue.encode(),
        b"%d" % task.priority,
        _optional(task.max_retries),
        _optional(task.timeout_seconds),
        _optional(task.scheduled_at_ms),
        task.owner.encode(),
        task.idempotency.fingerprint if task.idempotency else b"",
        encode_body(task.payload, task.metadata, traceparent),
    )


def _optional(value: int | None) -> bytes:
    return b"" if value is None else b"%d" % value


def _weigh(prepared: _Prepared) -> int:
    return len(prepared[1][-1])


def _is_refused(task: NewTask, answer: Answer) -> bool:
    # One with a key must be found again: it stays where the key says.
    return task.idempotency is None and isinstance(answer, CapacityError)
