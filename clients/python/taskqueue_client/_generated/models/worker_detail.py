from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.worker_activity import WorkerActivity
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.running_task import RunningTask
    from ..models.worker_handler import WorkerHandler
    from ..models.worker_rates import WorkerRates


T = TypeVar("T", bound="WorkerDetail")


@_attrs_define
class WorkerDetail:
    """A live worker with what it handles and runs.

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
        queues (list[str]): The queues it serves; none means all.
        handlers (list[WorkerHandler]): What it has handlers for, by type.
        running (list[RunningTask]): What it runs, the latest first.
        rates (WorkerRates): Means of the last minute, or since the start of a younger worker.
        hostname (str | Unset): Name of its machine.
        pid (int | Unset): Number of its process there.
    """

    id: str
    state: WorkerActivity
    started_at: datetime.datetime
    last_heartbeat: datetime.datetime
    active_tasks: int
    concurrency: int
    version: str
    queues: list[str]
    handlers: list[WorkerHandler]
    running: list[RunningTask]
    rates: WorkerRates
    hostname: str | Unset = UNSET
    pid: int | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = self.id

        state = self.state.value

        started_at = self.started_at.isoformat()

        last_heartbeat = self.last_heartbeat.isoformat()

        active_tasks = self.active_tasks

        concurrency = self.concurrency

        version = self.version

        queues = self.queues

        handlers = []
        for handlers_item_data in self.handlers:
            handlers_item = handlers_item_data.to_dict()
            handlers.append(handlers_item)

        running = []
        for running_item_data in self.running:
            running_item = running_item_data.to_dict()
            running.append(running_item)

        rates = self.rates.to_dict()

        hostname = self.hostname

        pid = self.pid

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
                "queues": queues,
                "handlers": handlers,
                "running": running,
                "rates": rates,
            }
        )
        if hostname is not UNSET:
            field_dict["hostname"] = hostname
        if pid is not UNSET:
            field_dict["pid"] = pid

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.running_task import RunningTask  # noqa: PLC0415
        from ..models.worker_handler import WorkerHandler  # noqa: PLC0415
        from ..models.worker_rates import WorkerRates  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        state = WorkerActivity(d.pop("state"))

        started_at = datetime.datetime.fromisoformat(d.pop("started_at"))

        last_heartbeat = datetime.datetime.fromisoformat(d.pop("last_heartbeat"))

        active_tasks = d.pop("active_tasks")

        concurrency = d.pop("concurrency")

        version = d.pop("version")

        queues = cast(list[str], d.pop("queues"))

        handlers = []
        _handlers = d.pop("handlers")
        for handlers_item_data in _handlers:
            handlers_item = WorkerHandler.from_dict(handlers_item_data)

            handlers.append(handlers_item)

        running = []
        _running = d.pop("running")
        for running_item_data in _running:
            running_item = RunningTask.from_dict(running_item_data)

            running.append(running_item)

        rates = WorkerRates.from_dict(d.pop("rates"))

        hostname = d.pop("hostname", UNSET)

        pid = d.pop("pid", UNSET)

        worker_detail = cls(
            id=id,
            state=state,
            started_at=started_at,
            last_heartbeat=last_heartbeat,
            active_tasks=active_tasks,
            concurrency=concurrency,
            version=version,
            queues=queues,
            handlers=handlers,
            running=running,
            rates=rates,
            hostname=hostname,
            pid=pid,
        )

        worker_detail.additional_properties = d
        return worker_detail

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
