from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.task_started_type import TaskStartedType

if TYPE_CHECKING:
    from ..models.task_started_data import TaskStartedData


T = TypeVar("T", bound="TaskStarted")


@_attrs_define
class TaskStarted:
    """A worker took the task.

    Attributes:
        type_ (TaskStartedType):
        timestamp (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        data (TaskStartedData):
        id (str): Place of the event in the stream; opaque to clients. Example: a1b2c3d4e5-42.
    """

    type_: TaskStartedType
    timestamp: datetime.datetime
    data: TaskStartedData
    id: str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_.value

        timestamp = self.timestamp.isoformat()

        data = self.data.to_dict()

        id = self.id

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "type": type_,
                "timestamp": timestamp,
                "data": data,
                "id": id,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.task_started_data import TaskStartedData  # noqa: PLC0415

        d = dict(src_dict)
        type_ = TaskStartedType(d.pop("type"))

        timestamp = datetime.datetime.fromisoformat(d.pop("timestamp"))

        data = TaskStartedData.from_dict(d.pop("data"))

        id = d.pop("id")

        task_started = cls(
            type_=type_,
            timestamp=timestamp,
            data=data,
            id=id,
        )

        task_started.additional_properties = d
        return task_started

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
