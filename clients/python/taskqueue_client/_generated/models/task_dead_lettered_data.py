from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.priority import Priority
from ..models.task_state import TaskState
from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskDeadLetteredData")


@_attrs_define
class TaskDeadLetteredData:
    """
    Attributes:
        task_id (str):
        type_ (str): Name of a task type, a queue or a worker. Example: email.
        priority (Priority): Name of a priority. Example: high.
        state (TaskState): Where the task is in its life. `pending` tasks wait in a queue, `scheduled` and `retrying`
            ones wait for their time; the last four states are final unless the task is retried by hand.
             Example: pending.
        attempts (int):
        reason (str):
        error (str | Unset):
    """

    task_id: str
    type_: str
    priority: Priority
    state: TaskState
    attempts: int
    reason: str
    error: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        type_ = self.type_

        priority = self.priority.value

        state = self.state.value

        attempts = self.attempts

        reason = self.reason

        error = self.error

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "task_id": task_id,
                "type": type_,
                "priority": priority,
                "state": state,
                "attempts": attempts,
                "reason": reason,
            }
        )
        if error is not UNSET:
            field_dict["error"] = error

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("task_id")

        type_ = d.pop("type")

        priority = Priority(d.pop("priority"))

        state = TaskState(d.pop("state"))

        attempts = d.pop("attempts")

        reason = d.pop("reason")

        error = d.pop("error", UNSET)

        task_dead_lettered_data = cls(
            task_id=task_id,
            type_=type_,
            priority=priority,
            state=state,
            attempts=attempts,
            reason=reason,
            error=error,
        )

        task_dead_lettered_data.additional_properties = d
        return task_dead_lettered_data

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
