"""Submissions: which partition takes a task, in how many calls, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from taskqueue_core.broker.clients import together
from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.codec import encode_body
from taskqueue_core.errors import BrokerError, CapacityError, InvalidTaskError, TaskQueueError
from taskqueue_core.keys import Keys, id_to_hex, partition_of
from taskqueue_core.models import NewTask, Submitted
from taskqueue_core.settings import QueueSettings
from taskqueue_core.states import TaskState

#: Most tasks in one script call: longer ones would keep other clients waiting.
BATCH: Final = 100

_BACKLOG_FULL, _TOO_MANY_QUEUES = -1, -2


class Intake:
    """Takes submissions into their partitions, which it asks at the same time."""

    def __init__(self, scripts: Scripts, partitions: Sequence[Keys], limits: QueueSettings) -> None:
        self._scripts = scripts
        self._partitions = partitions
        self._limits = limits

    async def submit_many(self, tasks: Sequence[NewTask]) -> list[Submitted | TaskQueueError]:
        """Store tasks, see ``Broker.submit_many``."""
        groups: dict[int, list[NewTask]] = {}
        for task in tasks:
            groups.setdefault(partition_of(task.id), []).append(task)
        found = await together([partial(self._submit_group, *item) for item in groups.items()])
        answers = {task_id: answer for group in found for task_id, answer in group.items()}
        failures = [answer for answer in answers.values() if isinstance(answer, BrokerError)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        return [answers[task.id] for task in tasks]

    async def _submit_group(
        self, partition: int, tasks: Sequence[NewTask]
    ) -> dict[str, Submitted | TaskQueueError]:
        answers: dict[str, Submitted | TaskQueueError] = {}
        for start in range(0, len(tasks), BATCH):
            chunk = tasks[start : start + BATCH]
            try:
                answers.update(await self._submit_chunk(self._partitions[partition], chunk))
            except BrokerError as error:
                return answers | {task.id: error for task in tasks[start:]}
        return answers

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
        reply = await self._scripts.call("submit", task_keys, values)
        codes = zip(tasks, reply[::2], reply[1::2], strict=True)
        return {task.id: self._submitted(task, code, created) for task, code, created in codes}

    def _submitted(self, task: NewTask, code: int, created_ms: int) -> Submitted | TaskQueueError:
        if code == _BACKLOG_FULL:
            return CapacityError(self._limits.max_queue_size)
        if code == _TOO_MANY_QUEUES:
            limit = self._limits.max_queues
            return InvalidTaskError("queue", f"there are {limit} queues already; use one of them")
        state = TaskState.PENDING if code == 1 else TaskState.SCHEDULED
        return Submitted(task.id, state, created_ms)


def _optional(value: int | None) -> str | int:
    return "" if value is None else value
