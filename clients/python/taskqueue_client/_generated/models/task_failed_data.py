from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.priority import Priority
from ..models.task_state import TaskState
from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskFailedData")


@_attrs_define
class TaskFailedData:
    """
    Attributes:
        task_id (str):
        type_ (str): Name of a task type, a queue or a worker. Example: email.
        priority (Priority): Name of a priority. Example: high.
        state (TaskState): Where the task is in its life. `pending` tasks wait in a queue, `scheduled` and `retrying`
            ones wait for their time; the last four states are final unless the task is retried by hand.
             Example: pending.
        attempts (int):
        error (str | Unset):
        reason (str | Unset):
        duration_ms (int | Unset):
        worker_id (str | Unset): Name of a task type, a queue or a worker. Example: email.
        scheduled_at (datetime.datetime | Unset): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
    """

    task_id: str
    type_: str
    priority: Priority
    state: TaskState
    attempts: int
    error: str | Unset = UNSET
    reason: str | Unset = UNSET
    duration_ms: int | Unset = UNSET
    worker_id: str | Unset = UNSET
    scheduled_at: datetime.datetime | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        type_ = self.type_

        priority = self.priority.value

        state = self.state.value

        attempts = self.attempts

        error = self.error

        reason = self.reason

        duration_ms = self.duration_ms

        worker_id = self.worker_id

        scheduled_at: str | Unset = UNSET
        if not isinstance(self.scheduled_at, Unset):
            scheduled_at = self.scheduled_at.isoformat()

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
        if error is not UNSET:
            field_dict["error"] = error
        if reason is not UNSET:
            field_dict["reason"] = reason
        if duration_ms is not UNSET:
            field_dict["duration_ms"] = duration_ms
        if worker_id is not UNSET:
            field_dict["worker_id"] = worker_id
        if scheduled_at is not UNSET:
            field_dict["scheduled_at"] = scheduled_at

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("task_id")

        type_ = d.pop("type")

        priority = Priority(d.pop("priority"))

        state = TaskState(d.pop("state"))

        attempts = d.pop("attempts")

        error = d.pop("error", UNSET)

        reason = d.pop("reason", UNSET)

        duration_ms = d.pop("duration_ms", UNSET)

        worker_id = d.pop("worker_id", UNSET)

        _scheduled_at = d.pop("scheduled_at", UNSET)
        scheduled_at: datetime.datetime | Unset
        if isinstance(_scheduled_at, Unset):
            scheduled_at = UNSET
        else:
            scheduled_at = datetime.datetime.fromisoformat(_scheduled_at)

        task_failed_data = cls(
            task_id=task_id,
            type_=type_,
            priority=priority,
            state=state,
            attempts=attempts,
            error=error,
            reason=reason,
            duration_ms=duration_ms,
            worker_id=worker_id,
            scheduled_at=scheduled_at,
        )

        task_failed_data.additional_properties = d
        return task_failed_data

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
