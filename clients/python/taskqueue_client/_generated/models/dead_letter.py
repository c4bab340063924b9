from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.task import Task


T = TypeVar("T", bound="DeadLetter")


@_attrs_define
class DeadLetter:
    """
    Attributes:
        task_id (str):
        task_type (str): Name of a task type, a queue or a worker. Example: email.
        reason (str): Why the task is here. Example: max_retries.
        added_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        message_id (str): Names this death of the task.
        original_error (str): Error of the last attempt, empty when there was none.
        task (Task): A task. Example: {'id': '01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00', 'type': 'email', 'queue':
            'default', 'payload': {'to': 'user@example.com'}, 'priority': 'high', 'state': 'pending', 'attempts': 0,
            'deliveries': 0, 'max_retries': 3, 'timeout': 300, 'created_at': '2026-01-15T12:00:00.000Z', 'updated_at':
            '2026-01-15T12:00:00.000Z'}.
    """

    task_id: str
    task_type: str
    reason: str
    added_at: datetime.datetime
    message_id: str
    original_error: str
    task: Task
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        task_type = self.task_type

        reason = self.reason

        added_at = self.added_at.isoformat()

        message_id = self.message_id

        original_error = self.original_error

        task = self.task.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "task_id": task_id,
                "task_type": task_type,
                "reason": reason,
                "added_at": added_at,
                "message_id": message_id,
                "original_error": original_error,
                "task": task,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.task import Task  # noqa: PLC0415

        d = dict(src_dict)
        task_id = d.pop("task_id")

        task_type = d.pop("task_type")

        reason = d.pop("reason")

        added_at = datetime.datetime.fromisoformat(d.pop("added_at"))

        message_id = d.pop("message_id")

        original_error = d.pop("original_error")

        task = Task.from_dict(d.pop("task"))

        dead_letter = cls(
            task_id=task_id,
            task_type=task_type,
            reason=reason,
            added_at=added_at,
            message_id=message_id,
            original_error=original_error,
            task=task,
        )

        dead_letter.additional_properties = d
        return dead_letter

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
