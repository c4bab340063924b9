from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.worker_activity import WorkerActivity

T = TypeVar("T", bound="WorkerPausedData")


@_attrs_define
class WorkerPausedData:
    """
    Attributes:
        worker_id (str): Name of a task type, a queue or a worker. Example: email.
        state (WorkerActivity): What the worker is doing. Example: busy.
    """

    worker_id: str
    state: WorkerActivity
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        worker_id = self.worker_id

        state = self.state.value

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "worker_id": worker_id,
                "state": state,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        worker_id = d.pop("worker_id")

        state = WorkerActivity(d.pop("state"))

        worker_paused_data = cls(
            worker_id=worker_id,
            state=state,
        )

        worker_paused_data.additional_properties = d
        return worker_paused_data

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
