from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.worker_activity import WorkerActivity

T = TypeVar("T", bound="Worker")


@_attrs_define
class Worker:
    """
    Example:
        {'id': 'worker-1', 'state': 'idle', 'started_at': '2026-01-15T12:00:00.000Z', 'last_heartbeat':
            '2026-01-15T12:00:05.000Z', 'active_tasks': 0, 'concurrency': 10, 'version': '1.0.0'}

    Attributes:
        id (str): Name of a task type, a queue or a worker. Example: email.
        state (WorkerActivity): What the worker is doing. Example: busy.
        started_at (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        last_heartbeat (datetime.datetime): RFC 3339 in UTC with three digits of milliseconds. Example:
            2026-01-15T12:00:00.000Z.
        active_tasks (int):
        concurrency (int):
        version (str):
    """

    id: str
    state: WorkerActivity
    started_at: datetime.datetime
    last_heartbeat: datetime.datetime
    active_tasks: int
    concurrency: int
    version: str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        state = self.state.value

        started_at = self.started_at.isoformat()

        last_heartbeat = self.last_heartbeat.isoformat()

        active_tasks = self.active_tasks

        concurrency = self.concurrency

        version = self.version

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "state": state,
                "started_at": started_at,
                "last_heartbeat": last_heartbeat,
                "active_tasks": active_tasks,
                "concurrency": concurrency,
                "version": version,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = d.pop("id")

        state = WorkerActivity(d.pop("state"))

        started_at = datetime.datetime.fromisoformat(d.pop("started_at"))

        last_heartbeat = datetime.datetime.fromisoformat(d.pop("last_heartbeat"))

        active_tasks = d.pop("active_tasks")

        concurrency = d.pop("concurrency")

        version = d.pop("version")

        worker = cls(
            id=id,
            state=state,
            started_at=started_at,
            last_heartbeat=last_heartbeat,
            active_tasks=active_tasks,
            concurrency=concurrency,
            version=version,
        )

        worker.additional_properties = d
        return worker

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
