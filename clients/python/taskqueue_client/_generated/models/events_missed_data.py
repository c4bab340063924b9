from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.gap_reason import GapReason

T = TypeVar("T", bound="EventsMissedData")


@_attrs_define
class EventsMissedData:
    """
    Attributes:
        missed (int): How many events. Filters do not matter to events that were deleted or do not hold; of
            those a slow reader lost, only the ones it would have got count.
        reason (GapReason): Why events are missing. `trimmed`: they were deleted before the reader came. `slow`: the
            reader did not keep up; they are still there, behind the last id it has. `restarted`: the
            stream began again or lost its end, so that so many events that were read do not hold.
             Example: trimmed.
    """

    missed: int
    reason: GapReason
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        missed = self.missed

        reason = self.reason.value

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "missed": missed,
                "reason": reason,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        missed = d.pop("missed")

        reason = GapReason(d.pop("reason"))

        events_missed_data = cls(
            missed=missed,
            reason=reason,
        )

        events_missed_data.additional_properties = d
        return events_missed_data

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
