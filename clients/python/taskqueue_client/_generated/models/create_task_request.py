from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="CreateTaskRequest")


@_attrs_define
class CreateTaskRequest:
    """A task to run. `null` for an optional field means that it is not sent.

    Example:
        {'type': 'email', 'payload': {'to': 'user@example.com', 'subject': 'Welcome'}, 'priority': 2, 'max_retries': 5,
            'timeout': 300, 'metadata': {'user_id': '123'}}

    Attributes:
        type_ (str): Name of a task type, a queue or a worker. Example: email.
        payload (Any | Unset): Any JSON object. It reaches the handler exactly as it is sent.
        priority (int | None | Unset): 0 low, 1 normal, 2 high, 3 critical. Example: 2.
        queue (None | str | Unset): Queue for the task; without it the one its handler names, else `default`. Example:
            mail.
        max_retries (int | None | Unset): Retries after the first attempt; without it the handler's, else the setting.
            Example: 5.
        timeout (int | None | Unset): Seconds an attempt may take; without it the handler's, else the setting. Example:
            300.
        scheduled_at (datetime.datetime | None | Unset): Earliest time to run, with a zone, at most one year ahead. A
            time in the past means at
            once. Finer than milliseconds is rounded up.
             Example: 2026-01-15T12:00:00Z.
        metadata (Any | Unset): Notes of the submitter, at most 32, each at most 256 characters long.
    """

    type_: str
    payload: Any | Unset = UNSET
    priority: int | None | Unset = UNSET
    queue: None | str | Unset = UNSET
    max_retries: int | None | Unset = UNSET
    timeout: int | None | Unset = UNSET
    scheduled_at: datetime.datetime | None | Unset = UNSET
    metadata: Any | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        payload = self.payload

        priority: int | None | Unset
        if isinstance(self.priority, Unset):
            priority = UNSET
        else:
            priority = self.priority

        queue: None | str | Unset
        if isinstance(self.queue, Unset):
            queue = UNSET
        else:
            queue = self.queue

        max_retries: int | None | Unset
        if isinstance(self.max_retries, Unset):
            max_retries = UNSET
        else:
            max_retries = self.max_retries

        timeout: int | None | Unset
        if isinstance(self.timeout, Unset):
            timeout = UNSET
        else:
            timeout = self.timeout

        scheduled_at: None | str | Unset
        if isinstance(self.scheduled_at, Unset):
            scheduled_at = UNSET
        elif isinstance(self.scheduled_at, datetime.datetime):
            scheduled_at = self.scheduled_at.isoformat()
        else:
            scheduled_at = self.scheduled_at

        metadata = self.metadata

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "type": type_,
            }
        )
        if payload is not UNSET:
            field_dict["payload"] = payload
        if priority is not UNSET:
            field_dict["priority"] = priority
        if queue is not UNSET:
            field_dict["queue"] = queue
        if max_retries is not UNSET:
            field_dict["max_retries"] = max_retries
        if timeout is not UNSET:
            field_dict["timeout"] = timeout
        if scheduled_at is not UNSET:
            field_dict["scheduled_at"] = scheduled_at
        if metadata is not UNSET:
            field_dict["metadata"] = metadata

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = d.pop("type")

        payload = d.pop("payload", UNSET)

        def _parse_priority(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        priority = _parse_priority(d.pop("priority", UNSET))

        def _parse_queue(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        queue = _parse_queue(d.pop("queue", UNSET))

        def _parse_max_retries(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        max_retries = _parse_max_retries(d.pop("max_retries", UNSET))

        def _parse_timeout(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        timeout = _parse_timeout(d.pop("timeout", UNSET))

        def _parse_scheduled_at(data: object) -> datetime.datetime | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                scheduled_at_type_0 = datetime.datetime.fromisoformat(data)

                return scheduled_at_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(datetime.datetime | None | Unset, data)

        scheduled_at = _parse_scheduled_at(d.pop("scheduled_at", UNSET))

        metadata = d.pop("metadata", UNSET)

        create_task_request = cls(
            type_=type_,
            payload=payload,
            priority=priority,
            queue=queue,
            max_retries=max_retries,
            timeout=timeout,
            scheduled_at=scheduled_at,
            metadata=metadata,
        )

        return create_task_request
