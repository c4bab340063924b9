from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.task import Task


T = TypeVar("T", bound="CreatedTask")


@_attrs_define
class CreatedTask:
    """What became of one task of a batch: the status that it would have had alone, and then the
    task (200 and 201) or the error.

        Attributes:
            status (int):
            task (Task | Unset): A task. Example: {'id': '01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00', 'type': 'email', 'queue':
                'default', 'payload': {'to': 'user@example.com'}, 'priority': 'high', 'state': 'pending', 'attempts': 0,
                'deliveries': 0, 'max_retries': 3, 'timeout': 300, 'created_at': '2026-01-15T12:00:00.000Z', 'updated_at':
                '2026-01-15T12:00:00.000Z'}.
            error (str | Unset): Text of the status.
            message (str | Unset): What is wrong, and what to do next.
            field (str | Unset): The field that breaks a rule.
    """

    status: int
    task: Task | Unset = UNSET
    error: str | Unset = UNSET
    message: str | Unset = UNSET
    field: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        status = self.status

        task: dict[str, Any] | Unset = UNSET
        if not isinstance(self.task, Unset):
            task = self.task.to_dict()

        error = self.error

        message = self.message

        field = self.field

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "status": status,
            }
        )
        if task is not UNSET:
            field_dict["task"] = task
        if error is not UNSET:
            field_dict["error"] = error
        if message is not UNSET:
            field_dict["message"] = message
        if field is not UNSET:
            field_dict["field"] = field

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.task import Task  # noqa: PLC0415

        d = dict(src_dict)
        status = d.pop("status")

        _task = d.pop("task", UNSET)
        task: Task | Unset
        if isinstance(_task, Unset):
            task = UNSET
        else:
            task = Task.from_dict(_task)

        error = d.pop("error", UNSET)

        message = d.pop("message", UNSET)

        field = d.pop("field", UNSET)

        created_task = cls(
            status=status,
            task=task,
            error=error,
            message=message,
            field=field,
        )

        created_task.additional_properties = d
        return created_task

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
