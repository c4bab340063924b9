from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.check_status import CheckStatus

T = TypeVar("T", bound="BacklogCheck")


@_attrs_define
class BacklogCheck:
    """
    Attributes:
        status (CheckStatus):
        message (str):
        tasks (int): Tasks that are not finished.
        limit (int): How many there may be.
    """

    status: CheckStatus
    message: str
    tasks: int
    limit: int
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        status = self.status.value

        message = self.message

        tasks = self.tasks

        limit = self.limit

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "status": status,
                "message": message,
                "tasks": tasks,
                "limit": limit,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        status = CheckStatus(d.pop("status"))

        message = d.pop("message")

        tasks = d.pop("tasks")

        limit = d.pop("limit")

        backlog_check = cls(
            status=status,
            message=message,
            tasks=tasks,
            limit=limit,
        )

        backlog_check.additional_properties = d
        return backlog_check

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
