from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="DeadLetterGroup")


@_attrs_define
class DeadLetterGroup:
    """Dead letters of one type that died of the same.

    Example:
        {'task_type': 'email', 'reason': 'max_retries', 'error': 'connection refused', 'count': 12, 'latest_at':
            '2026-01-15T12:00:00.000Z'}

    Attributes:
        task_type (str): Name of a task type, a queue or a worker. Example: email.
        reason (str): Why they are here.
        error (str): Their last error, cut after 256 bytes.
        count (int):
        latest_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
    """

    task_type: str
    reason: str
    error: str
    count: int
    latest_at: datetime.datetime
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        task_type = self.task_type

        reason = self.reason

        error = self.error

        count = self.count

        latest_at = self.latest_at.isoformat()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "task_type": task_type,
                "reason": reason,
                "error": error,
                "count": count,
                "latest_at": latest_at,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_type = d.pop("task_type")

        reason = d.pop("reason")

        error = d.pop("error")

        count = d.pop("count")

        latest_at = datetime.datetime.fromisoformat(d.pop("latest_at"))

        dead_letter_group = cls(
            task_type=task_type,
            reason=reason,
            error=error,
            count=count,
            latest_at=latest_at,
        )

        dead_letter_group.additional_properties = d
        return dead_letter_group

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
