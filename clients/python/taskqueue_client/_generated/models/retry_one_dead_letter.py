from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="RetryOneDeadLetter")


@_attrs_define
class RetryOneDeadLetter:
    """
    Example:
        {'task_id': '01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00'}

    Attributes:
        task_id (str):
        message_id (None | str | Unset): Retry only this death of the task.
        payload (Any | Unset): Run with this payload from now on; without it, with the one that it has.
    """

    task_id: str
    message_id: None | str | Unset = UNSET
    payload: Any | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        message_id: None | str | Unset
        if isinstance(self.message_id, Unset):
            message_id = UNSET
        else:
            message_id = self.message_id

        payload = self.payload

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "task_id": task_id,
            }
        )
        if message_id is not UNSET:
            field_dict["message_id"] = message_id
        if payload is not UNSET:
            field_dict["payload"] = payload

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("task_id")

        def _parse_message_id(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        message_id = _parse_message_id(d.pop("message_id", UNSET))

        payload = d.pop("payload", UNSET)

        retry_one_dead_letter = cls(
            task_id=task_id,
            message_id=message_id,
            payload=payload,
        )

        return retry_one_dead_letter
