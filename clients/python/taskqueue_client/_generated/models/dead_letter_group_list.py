from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.dead_letter_group import DeadLetterGroup


T = TypeVar("T", bound="DeadLetterGroupList")


@_attrs_define
class DeadLetterGroupList:
    """
    Attributes:
        items (list[DeadLetterGroup]):
        counted (int): Number of dead letters that were looked at.
        size (int): Number of all dead letters.
    """

    items: list[DeadLetterGroup]
    counted: int
    size: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        items = []
        for items_item_data in self.items:
            items_item = items_item_data.to_dict()
            items.append(items_item)

        counted = self.counted

        size = self.size

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "items": items,
                "counted": counted,
                "size": size,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.dead_letter_group import DeadLetterGroup  # noqa: PLC0415

        d = dict(src_dict)
        items = []
        _items = d.pop("items")
        for items_item_data in _items:
            items_item = DeadLetterGroup.from_dict(items_item_data)

            items.append(items_item)

        counted = d.pop("counted")

        size = d.pop("size")

        dead_letter_group_list = cls(
            items=items,
            counted=counted,
            size=size,
        )

        dead_letter_group_list.additional_properties = d
        return dead_letter_group_list

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
