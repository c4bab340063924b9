from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.queue_depth import QueueDepth


T = TypeVar("T", bound="QueueDepths")


@_attrs_define
class QueueDepths:
    """
    Attributes:
        critical (QueueDepth):  Example: {'queued': 12, 'pending_unacked': 2}.
        high (QueueDepth):  Example: {'queued': 12, 'pending_unacked': 2}.
        normal (QueueDepth):  Example: {'queued': 12, 'pending_unacked': 2}.
        low (QueueDepth):  Example: {'queued': 12, 'pending_unacked': 2}.
    """

    critical: QueueDepth
    high: QueueDepth
    normal: QueueDepth
    low: QueueDepth
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        critical = self.critical.to_dict()

        high = self.high.to_dict()

        normal = self.normal.to_dict()

        low = self.low.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "critical": critical,
                "high": high,
                "normal": normal,
                "low": low,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.queue_depth import QueueDepth  # noqa: PLC0415

        d = dict(src_dict)
        critical = QueueDepth.from_dict(d.pop("critical"))

        high = QueueDepth.from_dict(d.pop("high"))

        normal = QueueDepth.from_dict(d.pop("normal"))

        low = QueueDepth.from_dict(d.pop("low"))

        queue_depths = cls(
            critical=critical,
            high=high,
            normal=normal,
            low=low,
        )

        queue_depths.additional_properties = d
        return queue_depths

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
