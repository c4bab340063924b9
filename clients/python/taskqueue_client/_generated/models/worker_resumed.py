from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.worker_resumed_type import WorkerResumedType

if TYPE_CHECKING:
    from ..models.worker_resumed_data import WorkerResumedData


T = TypeVar("T", bound="WorkerResumed")


@_attrs_define
class WorkerResumed:
    """A worker was asked to resume.

    Attributes:
        type_ (WorkerResumedType):
        timestamp (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        data (WorkerResumedData):
        id (str): Place of the event in the stream; opaque to clients. Example: a1b2c3d4e5-42.
    """

    type_: WorkerResumedType
    timestamp: datetime.datetime
    data: WorkerResumedData
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
        from ..models.worker_resumed_data import WorkerResumedData  # noqa: PLC0415

        d = dict(src_dict)
        type_ = WorkerResumedType(d.pop("type"))

        timestamp = datetime.datetime.fromisoformat(d.pop("timestamp"))

        data = WorkerResumedData.from_dict(d.pop("data"))

        id = d.pop("id")

        worker_resumed = cls(
            type_=type_,
            timestamp=timestamp,
            data=data,
            id=id,
        )

        worker_resumed.additional_properties = d
        return worker_resumed

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
