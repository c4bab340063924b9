from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.priority import Priority

T = TypeVar("T", bound="QueuePurged")


@_attrs_define
class QueuePurged:
    """
    Example:
        {'message': 'queue purged', 'priority': 'low', 'purged_count': 3}

    Attributes:
        message (str):
        priority (Priority): Name of a priority. Example: high.
        purged_count (int):
    """

    message: str
    priority: Priority
    purged_count: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        message = self.message

        priority = self.priority.value

        purged_count = self.purged_count

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "message": message,
                "priority": priority,
                "purged_count": purged_count,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        message = d.pop("message")

        priority = Priority(d.pop("priority"))

        purged_count = d.pop("purged_count")

        queue_purged = cls(
            message=message,
            priority=priority,
            purged_count=purged_count,
        )

        queue_purged.additional_properties = d
        return queue_purged

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
