from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="WorkerRates")


@_attrs_define
class WorkerRates:
    """Means of the last minute, or since the start of a younger worker.

    Attributes:
        completed_per_second (float): Tasks completed.
        failed_per_second (float): Attempts failed.
    """

    completed_per_second: float
    failed_per_second: float
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        completed_per_second = self.completed_per_second

        failed_per_second = self.failed_per_second

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "completed_per_second": completed_per_second,
                "failed_per_second": failed_per_second,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        completed_per_second = d.pop("completed_per_second")

        failed_per_second = d.pop("failed_per_second")

        worker_rates = cls(
            completed_per_second=completed_per_second,
            failed_per_second=failed_per_second,
        )

        worker_rates.additional_properties = d
        return worker_rates

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
