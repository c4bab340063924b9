from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="SystemMetricsReportedData")


@_attrs_define
class SystemMetricsReportedData:
    """
    Attributes:
        backlog (int):
        scheduled_count (int):
        dlq_size (int):
        active_workers (int):
        submitted_total (int):
        finished_total (int):
        submitted_per_second (float):
        finished_per_second (float):
    """

    backlog: int
    scheduled_count: int
    dlq_size: int
    active_workers: int
    submitted_total: int
    finished_total: int
    submitted_per_second: float
    finished_per_second: float
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        backlog = self.backlog

        scheduled_count = self.scheduled_count

        dlq_size = self.dlq_size

        active_workers = self.active_workers

        submitted_total = self.submitted_total

        finished_total = self.finished_total

        submitted_per_second = self.submitted_per_second

        finished_per_second = self.finished_per_second

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "backlog": backlog,
                "scheduled_count": scheduled_count,
                "dlq_size": dlq_size,
                "active_workers": active_workers,
                "submitted_total": submitted_total,
                "finished_total": finished_total,
                "submitted_per_second": submitted_per_second,
                "finished_per_second": finished_per_second,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        backlog = d.pop("backlog")

        scheduled_count = d.pop("scheduled_count")

        dlq_size = d.pop("dlq_size")

        active_workers = d.pop("active_workers")

        submitted_total = d.pop("submitted_total")

        finished_total = d.pop("finished_total")

        submitted_per_second = d.pop("submitted_per_second")

        finished_per_second = d.pop("finished_per_second")

        system_metrics_reported_data = cls(
            backlog=backlog,
            scheduled_count=scheduled_count,
            dlq_size=dlq_size,
            active_workers=active_workers,
            submitted_total=submitted_total,
            finished_total=finished_total,
            submitted_per_second=submitted_per_second,
            finished_per_second=finished_per_second,
        )

        system_metrics_reported_data.additional_properties = d
        return system_metrics_reported_data

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
