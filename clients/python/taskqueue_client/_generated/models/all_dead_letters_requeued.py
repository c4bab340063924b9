from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="AllDeadLettersRequeued")


@_attrs_define
class AllDeadLettersRequeued:
    """
    Example:
        {'message': 'tasks re-queued', 'retried_count': 3}

    Attributes:
        message (str):
        retried_count (int):
        matched_count (int | Unset): Number of dead letters that a dry run found.
    """

    message: str
    retried_count: int
    matched_count: int | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        message = self.message

        retried_count = self.retried_count

        matched_count = self.matched_count

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "message": message,
                "retried_count": retried_count,
            }
        )
        if matched_count is not UNSET:
            field_dict["matched_count"] = matched_count

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        message = d.pop("message")

        retried_count = d.pop("retried_count")

        matched_count = d.pop("matched_count", UNSET)

        all_dead_letters_requeued = cls(
            message=message,
            retried_count=retried_count,
            matched_count=matched_count,
        )

        all_dead_letters_requeued.additional_properties = d
        return all_dead_letters_requeued

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
