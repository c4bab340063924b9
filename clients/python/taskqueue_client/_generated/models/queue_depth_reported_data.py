from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.waiting_counts import WaitingCounts


T = TypeVar("T", bound="QueueDepthReportedData")


@_attrs_define
class QueueDepthReportedData:
    """
    Attributes:
        depths (WaitingCounts): Number of waiting tasks by priority.
    """

    depths: WaitingCounts
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        depths = self.depths.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "depths": depths,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.waiting_counts import WaitingCounts  # noqa: PLC0415

        d = dict(src_dict)
        depths = WaitingCounts.from_dict(d.pop("depths"))

        queue_depth_reported_data = cls(
            depths=depths,
        )

        queue_depth_reported_data.additional_properties = d
        return queue_depth_reported_data

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
