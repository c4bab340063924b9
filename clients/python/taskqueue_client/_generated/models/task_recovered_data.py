from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.priority import Priority
from ..models.task_state import TaskState
from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskRecoveredData")


@_attrs_define
class TaskRecoveredData:
    """
    Attributes:
        task_id (str):
        type_ (str): Name of a task type, a queue or a worker. Example: email.
        priority (Priority): Name of a priority. Example: high.
        state (TaskState): Where the task is in its life. `pending` tasks wait in a queue, `scheduled` and `retrying`
            ones wait for their time; the last four states are final unless the task is retried by hand.
             Example: pending.
        attempts (int):
        worker_id (str | Unset): Name of a task type, a queue or a worker. Example: email.
    """

    task_id: str
    type_: str
    priority: Priority
    state: TaskState
    attempts: int
    worker_id: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        type_ = self.type_

        priority = self.priority.value

        state = self.state.value

        attempts = self.attempts

        worker_id = self.worker_id

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "task_id": task_id,
                "type": type_,
                "priority": priority,
                "state": state,
                "attempts": attempts,
            }
        )
        if worker_id is not UNSET:
            field_dict["worker_id"] = worker_id

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("task_id")

        type_ = d.pop("type")

        priority = Priority(d.pop("priority"))

        state = TaskState(d.pop("state"))

        attempts = d.pop("attempts")

        worker_id = d.pop("worker_id", UNSET)

        task_recovered_data = cls(
            task_id=task_id,
            type_=type_,
            priority=priority,
            state=state,
            attempts=attempts,
            worker_id=worker_id,
        )

        task_recovered_data.additional_properties = d
        return task_recovered_data

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
