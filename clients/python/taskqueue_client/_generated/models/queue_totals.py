from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="QueueTotals")


@_attrs_define
class QueueTotals:
    """
    Example:
        {'queued': 14, 'pending_unacked': 2, 'deferred': 5}

    Attributes:
        queued (int):
        pending_unacked (int):
        deferred (int): Scheduled and retrying tasks.
    """

    queued: int
    pending_unacked: int
    deferred: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        queued = self.queued

        pending_unacked = self.pending_unacked

        deferred = self.deferred

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "queued": queued,
                "pending_unacked": pending_unacked,
                "deferred": deferred,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        queued = d.pop("queued")

        pending_unacked = d.pop("pending_unacked")

        deferred = d.pop("deferred")

        queue_totals = cls(
            queued=queued,
            pending_unacked=pending_unacked,
            deferred=deferred,
        )

        queue_totals.additional_properties = d
        return queue_totals

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
