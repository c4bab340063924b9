from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.backlog_check import BacklogCheck
    from ..models.events_check import EventsCheck
    from ..models.health_check import HealthCheck
    from ..models.workers_check import WorkersCheck


T = TypeVar("T", bound="HealthChecks")


@_attrs_define
class HealthChecks:
    """While a part of the broker does not answer there is `broker` only.

    Attributes:
        broker (HealthCheck):
        persistence (HealthCheck | Unset):
        memory (HealthCheck | Unset):
        workers (WorkersCheck | Unset):
        backlog (BacklogCheck | Unset):
        events (EventsCheck | Unset):
    """

    broker: HealthCheck
    persistence: HealthCheck | Unset = UNSET
    memory: HealthCheck | Unset = UNSET
    workers: WorkersCheck | Unset = UNSET
    backlog: BacklogCheck | Unset = UNSET
    events: EventsCheck | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        broker = self.broker.to_dict()

        persistence: dict[str, Any] | Unset = UNSET
        if not isinstance(self.persistence, Unset):
            persistence = self.persistence.to_dict()

        memory: dict[str, Any] | Unset = UNSET
        if not isinstance(self.memory, Unset):
            memory = self.memory.to_dict()

        workers: dict[str, Any] | Unset = UNSET
        if not isinstance(self.workers, Unset):
            workers = self.workers.to_dict()

        backlog: dict[str, Any] | Unset = UNSET
        if not isinstance(self.backlog, Unset):
            backlog = self.backlog.to_dict()

        events: dict[str, Any] | Unset = UNSET
        if not isinstance(self.events, Unset):
            events = self.events.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "broker": broker,
            }
        )
        if persistence is not UNSET:
            field_dict["persistence"] = persistence
        if memory is not UNSET:
            field_dict["memory"] = memory
        if workers is not UNSET:
            field_dict["workers"] = workers
        if backlog is not UNSET:
            field_dict["backlog"] = backlog
        if events is not UNSET:
            field_dict["events"] = events

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.backlog_check import BacklogCheck  # noqa: PLC0415
        from ..models.events_check import EventsCheck  # noqa: PLC0415
        from ..models.health_check import HealthCheck  # noqa: PLC0415
        from ..models.workers_check import WorkersCheck  # noqa: PLC0415

        d = dict(src_dict)
        broker = HealthCheck.from_dict(d.pop("broker"))

        _persistence = d.pop("persistence", UNSET)
        persistence: HealthCheck | Unset
        if isinstance(_persistence, Unset):
            persistence = UNSET
        else:
            persistence = HealthCheck.from_dict(_persistence)

        _memory = d.pop("memory", UNSET)
        memory: HealthCheck | Unset
        if isinstance(_memory, Unset):
            memory = UNSET
        else:
            memory = HealthCheck.from_dict(_memory)

        _workers = d.pop("workers", UNSET)
        workers: WorkersCheck | Unset
        if isinstance(_workers, Unset):
            workers = UNSET
        else:
            workers = WorkersCheck.from_dict(_workers)

        _backlog = d.pop("backlog", UNSET)
        backlog: BacklogCheck | Unset
        if isinstance(_backlog, Unset):
            backlog = UNSET
        else:
            backlog = BacklogCheck.from_dict(_backlog)

        _events = d.pop("events", UNSET)
        events: EventsCheck | Unset
        if isinstance(_events, Unset):
            events = UNSET
        else:
            events = EventsCheck.from_dict(_events)

        health_checks = cls(
            broker=broker,
            persistence=persistence,
            memory=memory,
            workers=workers,
            backlog=backlog,
            events=events,
        )

        health_checks.additional_properties = d
        return health_checks

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
