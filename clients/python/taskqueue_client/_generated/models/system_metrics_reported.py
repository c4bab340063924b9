from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.system_metrics_reported_type import SystemMetricsReportedType

if TYPE_CHECKING:
    from ..models.system_metrics_reported_data import SystemMetricsReportedData


T = TypeVar("T", bound="SystemMetricsReported")


@_attrs_define
class SystemMetricsReported:
    """Totals and rates of the fleet, sent every few seconds.

    Attributes:
        type_ (SystemMetricsReportedType):
        timestamp (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        data (SystemMetricsReportedData):
    """

    type_: SystemMetricsReportedType
    timestamp: datetime.datetime
    data: SystemMetricsReportedData
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_.value

        timestamp = self.timestamp.isoformat()

        data = self.data.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "type": type_,
                "timestamp": timestamp,
                "data": data,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.system_metrics_reported_data import SystemMetricsReportedData  # noqa: PLC0415

        d = dict(src_dict)
        type_ = SystemMetricsReportedType(d.pop("type"))

        timestamp = datetime.datetime.fromisoformat(d.pop("timestamp"))

        data = SystemMetricsReportedData.from_dict(d.pop("data"))

        system_metrics_reported = cls(
            type_=type_,
            timestamp=timestamp,
            data=data,
        )

        system_metrics_reported.additional_properties = d
        return system_metrics_reported

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
