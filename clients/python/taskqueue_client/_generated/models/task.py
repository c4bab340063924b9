from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.priority import Priority
from ..models.task_state import TaskState
from ..types import UNSET, Unset

T = TypeVar("T", bound="Task")


@_attrs_define
class Task:
    """A task.

    Example:
        {'id': '01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00', 'type': 'email', 'queue': 'default', 'payload': {'to':
            'user@example.com'}, 'priority': 'high', 'state': 'pending', 'attempts': 0, 'deliveries': 0, 'max_retries': 3,
            'timeout': 300, 'created_at': '2026-01-15T12:00:00.000Z', 'updated_at': '2026-01-15T12:00:00.000Z'}

    Attributes:
        id (str):
        type_ (str): Name of a task type, a queue or a worker. Example: email.
        queue (str): Name of a task type, a queue or a worker. Example: email.
        payload (Any): Any JSON object. It reaches the handler and comes back exactly as it was sent.
        priority (Priority): Name of a priority. Example: high.
        state (TaskState): Where the task is in its life. `pending` tasks wait in a queue, `scheduled` and `retrying`
            ones wait for their time; the last four states are final unless the task is retried by hand.
             Example: pending.
        attempts (int): Executions that count against `max_retries`.
        deliveries (int): How often a worker was given the task, lost and released runs included.
        max_retries (int):
        timeout (int): Seconds an attempt may take.
        created_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        updated_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        owner (str | Unset): Who submitted the task, when that was a key or token with an owner. Others with an owner do
            not see it.
             Example: acme.
        error (str | Unset): Error of the last attempt.
        cancel_requested (bool | Unset): Present and true while the task runs and its worker is asked to stop it.
        no_worker (bool | Unset): Present and true while the task waits and no live worker takes its type from its
            queue.
            Shown by `GET /api/v1/tasks/{task_id}` only, and up to two seconds late.
        result (Any | Unset): Any JSON value. Example: {'sent': True}.
        worker_id (str | Unset): Name of a task type, a queue or a worker. Example: email.
        started_at (datetime.datetime | Unset): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        completed_at (datetime.datetime | Unset): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        scheduled_at (datetime.datetime | Unset): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        next_retry_at (datetime.datetime | Unset): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        metadata (Any | Unset): Notes of the submitter, at most 32, each at most 256 characters long.
    """

    id: str
    type_: str
    queue: str
    payload: Any
    priority: Priority
    state: TaskState
    attempts: int
    deliveries: int
    max_retries: int
    timeout: int
    created_at: datetime.datetime
    updated_at: datetime.datetime
    owner: str | Unset = UNSET
    error: str | Unset = UNSET
    cancel_requested: bool | Unset = UNSET
    no_worker: bool | Unset = UNSET
    result: Any | Unset = UNSET
    worker_id: str | Unset = UNSET
    started_at: datetime.datetime | Unset = UNSET
    completed_at: datetime.datetime | Unset = UNSET
    scheduled_at: datetime.datetime | Unset = UNSET
    next_retry_at: datetime.datetime | Unset = UNSET
    metadata: Any | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        type_ = self.type_

        queue = self.queue

        payload = self.payload

        priority = self.priority.value

        state = self.state.value

        attempts = self.attempts

        deliveries = self.deliveries

        max_retries = self.max_retries

        timeout = self.timeout

        created_at = self.created_at.isoformat()

        updated_at = self.updated_at.isoformat()

        owner = self.owner

        error = self.error

        cancel_requested = self.cancel_requested

        no_worker = self.no_worker

        result = self.result

        worker_id = self.worker_id

        started_at: str | Unset = UNSET
        if not isinstance(self.started_at, Unset):
            started_at = self.started_at.isoformat()

        completed_at: str | Unset = UNSET
        if not isinstance(self.completed_at, Unset):
            completed_at = self.completed_at.isoformat()

        scheduled_at: str | Unset = UNSET
        if not isinstance(self.scheduled_at, Unset):
            scheduled_at = self.scheduled_at.isoformat()

        next_retry_at: str | Unset = UNSET
        if not isinstance(self.next_retry_at, Unset):
            next_retry_at = self.next_retry_at.isoformat()

        metadata = self.metadata

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "type": type_,
                "queue": queue,
                "payload": payload,
                "priority": priority,
                "state": state,
                "attempts": attempts,
                "deliveries": deliveries,
                "max_retries": max_retries,
                "timeout": timeout,
                "created_at": created_at,
                "updated_at": updated_at,
            }
        )
        if owner is not UNSET:
            field_dict["owner"] = owner
        if error is not UNSET:
            field_dict["error"] = error
        if cancel_requested is not UNSET:
            field_dict["cancel_requested"] = cancel_requested
        if no_worker is not UNSET:
            field_dict["no_worker"] = no_worker
        if result is not UNSET:
            field_dict["result"] = result
        if worker_id is not UNSET:
            field_dict["worker_id"] = worker_id
        if started_at is not UNSET:
            field_dict["started_at"] = started_at
        if completed_at is not UNSET:
            field_dict["completed_at"] = completed_at
        if scheduled_at is not UNSET:
            field_dict["scheduled_at"] = scheduled_at
        if next_retry_at is not UNSET:
            field_dict["next_retry_at"] = next_retry_at
        if metadata is not UNSET:
            field_dict["metadata"] = metadata

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = d.pop("id")

        type_ = d.pop("type")

        queue = d.pop("queue")

        payload = d.pop("payload")

        priority = Priority(d.pop("priority"))

        state = TaskState(d.pop("state"))

        attempts = d.pop("attempts")

        deliveries = d.pop("deliveries")

        max_retries = d.pop("max_retries")

        timeout = d.pop("timeout")

        created_at = datetime.datetime.fromisoformat(d.pop("created_at"))

        updated_at = datetime.datetime.fromisoformat(d.pop("updated_at"))

        owner = d.pop("owner", UNSET)

        error = d.pop("error", UNSET)

        cancel_requested = d.pop("cancel_requested", UNSET)

        no_worker = d.pop("no_worker", UNSET)

        result = d.pop("result", UNSET)

        worker_id = d.pop("worker_id", UNSET)

        _started_at = d.pop("started_at", UNSET)
        started_at: datetime.datetime | Unset
        if isinstance(_started_at, Unset):
            started_at = UNSET
        else:
            started_at = datetime.datetime.fromisoformat(_started_at)

        _completed_at = d.pop("completed_at", UNSET)
        completed_at: datetime.datetime | Unset
        if isinstance(_completed_at, Unset):
            completed_at = UNSET
        else:
            completed_at = datetime.datetime.fromisoformat(_completed_at)

        _scheduled_at = d.pop("scheduled_at", UNSET)
        scheduled_at: datetime.datetime | Unset
        if isinstance(_scheduled_at, Unset):
            scheduled_at = UNSET
        else:
            scheduled_at = datetime.datetime.fromisoformat(_scheduled_at)

        _next_retry_at = d.pop("next_retry_at", UNSET)
        next_retry_at: datetime.datetime | Unset
        if isinstance(_next_retry_at, Unset):
            next_retry_at = UNSET
        else:
            next_retry_at = datetime.datetime.fromisoformat(_next_retry_at)

        metadata = d.pop("metadata", UNSET)

        task = cls(
            id=id,
            type_=type_,
            queue=queue,
            payload=payload,
            priority=priority,
            state=state,
            attempts=attempts,
            deliveries=deliveries,
            max_retries=max_retries,
            timeout=timeout,
            created_at=created_at,
            updated_at=updated_at,
            owner=owner,
            error=error,
            cancel_requested=cancel_requested,
            no_worker=no_worker,
            result=result,
            worker_id=worker_id,
            started_at=started_at,
            completed_at=completed_at,
            scheduled_at=scheduled_at,
            next_retry_at=next_retry_at,
            metadata=metadata,
        )

        task.additional_properties = d
        return task

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
