from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.created_task import CreatedTask


T = TypeVar("T", bound="CreatedTasks")


@_attrs_define
class CreatedTasks:
    """What became of the tasks of a batch.

    Attributes:
        items (list[CreatedTask]): An item for each task of the request, in their order.
        accepted_count (int): Items that have a task.
        refused_count (int): Items that have an error.
    """

    items: list[CreatedTask]
    accepted_count: int
    refused_count: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        items = []
        for items_item_data in self.items:
            items_item = items_item_data.to_dict()
            items.append(items_item)

        accepted_count = self.accepted_count

        refused_count = self.refused_count

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "items": items,
                "accepted_count": accepted_count,
                "refused_count": refused_count,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.created_task import CreatedTask  # noqa: PLC0415

        d = dict(src_dict)
        items = []
        _items = d.pop("items")
        for items_item_data in _items:
            items_item = CreatedTask.from_dict(items_item_data)

            items.append(items_item)

        accepted_count = d.pop("accepted_count")

        refused_count = d.pop("refused_count")

        created_tasks = cls(
            items=items,
            accepted_count=accepted_count,
            refused_count=refused_count,
        )

        created_tasks.additional_properties = d
        return created_tasks

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
