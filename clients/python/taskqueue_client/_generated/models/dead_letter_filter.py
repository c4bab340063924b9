from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="DeadLetterFilter")


@_attrs_define
class DeadLetterFilter:
    """What a dead letter must be; at least one of these.

    Example:
        {'type': 'email', 'error': 'connection refused'}

    Attributes:
        type_ (str | Unset): Name of a task type, a queue or a worker. Example: email.
        queue (str | Unset): Name of a task type, a queue or a worker. Example: email.
        reason (str | Unset):
        error (str | Unset): Any part of the error.
    """

    type_: str | Unset = UNSET
    queue: str | Unset = UNSET
    reason: str | Unset = UNSET
    error: str | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        queue = self.queue

        reason = self.reason

        error = self.error

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if type_ is not UNSET:
            field_dict["type"] = type_
        if queue is not UNSET:
            field_dict["queue"] = queue
        if reason is not UNSET:
            field_dict["reason"] = reason
        if error is not UNSET:
            field_dict["error"] = error

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = d.pop("type", UNSET)

        queue = d.pop("queue", UNSET)

        reason = d.pop("reason", UNSET)

        error = d.pop("error", UNSET)

        dead_letter_filter = cls(
            type_=type_,
            queue=queue,
            reason=reason,
            error=error,
        )

        return dead_letter_filter
