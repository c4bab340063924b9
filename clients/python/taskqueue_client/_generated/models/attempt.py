from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="Attempt")


@_attrs_define
class Attempt:
    """An attempt that failed.

    Example:
        {'attempt': 1, 'delivery': 1, 'worker_id': 'worker-1', 'started_at': '2026-01-15T12:00:00.000Z', 'ended_at':
            '2026-01-15T12:00:00.250Z', 'duration_ms': 250, 'error': 'connection refused'}

    Attributes:
        attempt (int): Its number, which counts against `max_retries`.
        delivery (int): Its number among all starts of the task.
        worker_id (str): Name of a task type, a queue or a worker. Example: email.
        started_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        ended_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        duration_ms (int):
        error (str):
        traceback (str | Unset): Where in the handler's code it failed.
    """

    attempt: int
    delivery: int
    worker_id: str
    started_at: datetime.datetime
    ended_at: datetime.datetime
    duration_ms: int
    error: str
    traceback: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        attempt = self.attempt

        delivery = self.delivery

        worker_id = self.worker_id

        started_at = self.started_at.isoformat()

        ended_at = self.ended_at.isoformat()

        duration_ms = self.duration_ms

        error = self.error

        traceback = self.traceback

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "attempt": attempt,
                "delivery": delivery,
                "worker_id": worker_id,
                "started_at": started_at,
                "ended_at": ended_at,
                "duration_ms": duration_ms,
                "error": error,
            }
        )
        if traceback is not UNSET:
            field_dict["traceback"] = traceback

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        attempt = d.pop("attempt")

        delivery = d.pop("delivery")

        worker_id = d.pop("worker_id")

        started_at = datetime.datetime.fromisoformat(d.pop("started_at"))

        ended_at = datetime.datetime.fromisoformat(d.pop("ended_at"))

        duration_ms = d.pop("duration_ms")

        error = d.pop("error")

        traceback = d.pop("traceback", UNSET)

        attempt = cls(
            attempt=attempt,
            delivery=delivery,
            worker_id=worker_id,
            started_at=started_at,
            ended_at=ended_at,
            duration_ms=duration_ms,
            error=error,
            traceback=traceback,
        )

        attempt.additional_properties = d
        return attempt

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
