from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="QueueDepth")


@_attrs_define
class QueueDepth:
    """
    Example:
        {'queued': 12, 'pending_unacked': 2}

    Attributes:
        queued (int): Tasks that wait or run.
        pending_unacked (int): Tasks that run.
        paused (bool | Unset): True while the priority is paused, in one partition at least; absent otherwise.
    """

    queued: int
    pending_unacked: int
    paused: bool | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        queued = self.queued

        pending_unacked = self.pending_unacked

        paused = self.paused

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "queued": queued,
                "pending_unacked": pending_unacked,
            }
        )
        if paused is not UNSET:
            field_dict["paused"] = paused

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        queued = d.pop("queued")

        pending_unacked = d.pop("pending_unacked")

        paused = d.pop("paused", UNSET)

        queue_depth = cls(
            queued=queued,
            pending_unacked=pending_unacked,
            paused=paused,
        )

        queue_depth.additional_properties = d
        return queue_depth

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
