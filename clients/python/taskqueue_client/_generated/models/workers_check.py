from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.check_status import CheckStatus
from ..types import UNSET, Unset

T = TypeVar("T", bound="WorkersCheck")


@_attrs_define
class WorkersCheck:
    """
    Attributes:
        status (CheckStatus):
        message (str):
        live (int): Live workers.
        no_worker (int): Waiting tasks of a type or in a queue that no live worker takes. What type a task is of
            counts once a worker has looked at it.
        types (list[str] | Unset): Types of these tasks, those of most tasks first.
        queues (list[str] | Unset): Queues that no worker serves, those with most tasks first.
    """

    status: CheckStatus
    message: str
    live: int
    no_worker: int
    types: list[str] | Unset = UNSET
    queues: list[str] | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        status = self.status.value

        message = self.message

        live = self.live

        no_worker = self.no_worker

        types: list[str] | Unset = UNSET
        if not isinstance(self.types, Unset):
            types = self.types

        queues: list[str] | Unset = UNSET
        if not isinstance(self.queues, Unset):
            queues = self.queues

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "status": status,
                "message": message,
                "live": live,
                "no_worker": no_worker,
            }
        )
        if types is not UNSET:
            field_dict["types"] = types
        if queues is not UNSET:
            field_dict["queues"] = queues

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        status = CheckStatus(d.pop("status"))

        message = d.pop("message")

        live = d.pop("live")

        no_worker = d.pop("no_worker")

        types = cast(list[str], d.pop("types", UNSET))

        queues = cast(list[str], d.pop("queues", UNSET))

        workers_check = cls(
            status=status,
            message=message,
            live=live,
            no_worker=no_worker,
            types=types,
            queues=queues,
        )

        workers_check.additional_properties = d
        return workers_check

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
