"""A task that is to be submitted, checked as far as the client can know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import field, frozen

from taskqueue_client._generated.models import CreateTaskRequest, Priority, Task, TaskState

#: States that a task leaves only when somebody retries it by hand.
TERMINAL_STATES: Final = frozenset(
    {TaskState.COMPLETED, TaskState.CANCELLED, TaskState.FAILED, TaskState.DEAD_LETTER}
)
_NUMBERS: Final = {
    Priority.LOW.value: 0,
    Priority.NORMAL.value: 1,
    Priority.HIGH.value: 2,
    Priority.CRITICAL.value: 3,
}


@frozen(kw_only=True)
class NewTask:
    """What ``submit_task`` takes, as a value: for ``submit_batch``.

    ``priority`` is a name or its number; ``timeout`` is in seconds.
    """

    type: str
    payload: Mapping[str, Any] = field(factory=dict)
    priority: Priority | str | int | None = None
    queue: str | None = None
    max_retries: int | None = None
    timeout: int | None = None
    scheduled_at: datetime | None = None
    metadata: Mapping[str, str] | None = None

    def to_request(self) -> CreateTaskRequest:
        """Return it as the contract has it.

        Raises:
            ValueError: ``scheduled_at`` is without a zone, or there is no such priority.
        """
        return CreateTaskRequest(
            type_=self.type,
            payload=dict(self.payload),
            priority=_number(self.priority),
            queue=self.queue,
            max_retries=self.max_retries,
            timeout=self.timeout,
            scheduled_at=zoned("scheduled_at", self.scheduled_at),
            metadata=None if self.metadata is None else dict(self.metadata),
        )


def _number(priority: Priority | str | int | None) -> int | None:
    if not isinstance(priority, str):
        return priority
    if priority not in _NUMBERS:
        raise ValueError(f"priority: {priority!r} is none of {', '.join(_NUMBERS)}")
    return _NUMBERS[priority]


def zoned(name: str, moment: datetime | None) -> datetime | None:
    """Return a moment that says where it is; without a zone it would mean another one elsewhere.

    Raises:
        ValueError: it has none.
    """
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{name}: a time needs a zone, such as datetime.now(UTC)")
    return moment


def has_ended(task: Task) -> bool:
    """Tell whether nothing more happens to a task by itself."""
    return task.state in TERMINAL_STATES
