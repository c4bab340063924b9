from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.events_missed import EventsMissed
    from ..models.queue_depth_reported import QueueDepthReported
    from ..models.queue_paused import QueuePaused
    from ..models.queue_resumed import QueueResumed
    from ..models.system_metrics_reported import SystemMetricsReported
    from ..models.task_cancelled import TaskCancelled
    from ..models.task_completed import TaskCompleted
    from ..models.task_dead_lettered import TaskDeadLettered
    from ..models.task_failed import TaskFailed
    from ..models.task_progress import TaskProgress
    from ..models.task_queued import TaskQueued
    from ..models.task_recovered import TaskRecovered
    from ..models.task_retrying import TaskRetrying
    from ..models.task_started import TaskStarted
    from ..models.task_submitted import TaskSubmitted
    from ..models.worker_joined import WorkerJoined
    from ..models.worker_left import WorkerLeft
    from ..models.worker_paused import WorkerPaused
    from ..models.worker_resumed import WorkerResumed


T = TypeVar("T", bound="EventPage")


@_attrs_define
class EventPage:
    """
    Example:
        {'items': [], 'next_cursor': 'a1b2c3d4e5-42'}

    Attributes:
        items (list[EventsMissed | QueueDepthReported | QueuePaused | QueueResumed | SystemMetricsReported |
            TaskCancelled | TaskCompleted | TaskDeadLettered | TaskFailed | TaskProgress | TaskQueued | TaskRecovered |
            TaskRetrying | TaskStarted | TaskSubmitted | WorkerJoined | WorkerLeft | WorkerPaused | WorkerResumed]):
        next_cursor (str): Where to go on, also when there is nothing more for now; opaque to clients.
    """

    items: list[
        EventsMissed
        | QueueDepthReported
        | QueuePaused
        | QueueResumed
        | SystemMetricsReported
        | TaskCancelled
        | TaskCompleted
        | TaskDeadLettered
        | TaskFailed
        | TaskProgress
        | TaskQueued
        | TaskRecovered
        | TaskRetrying
        | TaskStarted
        | TaskSubmitted
        | WorkerJoined
        | WorkerLeft
        | WorkerPaused
        | WorkerResumed
    ]
    next_cursor: str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.queue_depth_reported import QueueDepthReported  # noqa: PLC0415
        from ..models.queue_paused import QueuePaused  # noqa: PLC0415
        from ..models.queue_resumed import QueueResumed  # noqa: PLC0415
        from ..models.system_metrics_reported import SystemMetricsReported  # noqa: PLC0415
        from ..models.task_cancelled import TaskCancelled  # noqa: PLC0415
        from ..models.task_completed import TaskCompleted  # noqa: PLC0415
        from ..models.task_dead_lettered import TaskDeadLettered  # noqa: PLC0415
        from ..models.task_failed import TaskFailed  # noqa: PLC0415
        from ..models.task_progress import TaskProgress  # noqa: PLC0415
        from ..models.task_queued import TaskQueued  # noqa: PLC0415
        from ..models.task_recovered import TaskRecovered  # noqa: PLC0415
        from ..models.task_retrying import TaskRetrying  # noqa: PLC0415
        from ..models.task_started import TaskStarted  # noqa: PLC0415
        from ..models.task_submitted import TaskSubmitted  # noqa: PLC0415
        from ..models.worker_joined import WorkerJoined  # noqa: PLC0415
        from ..models.worker_left import WorkerLeft  # noqa: PLC0415
        from ..models.worker_paused import WorkerPaused  # noqa: PLC0415
        from ..models.worker_resumed import WorkerResumed  # noqa: PLC0415

        items = []
        for items_item_data in self.items:
            items_item: dict[str, Any]
            if isinstance(items_item_data, TaskSubmitted):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskQueued):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskStarted):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskCompleted):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskRetrying):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskFailed):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskDeadLettered):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskCancelled):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskRecovered):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, TaskProgress):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, WorkerJoined):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, WorkerLeft):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, WorkerPaused):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, WorkerResumed):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, QueuePaused):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, QueueResumed):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, QueueDepthReported):
                items_item = items_item_data.to_dict()
            elif isinstance(items_item_data, SystemMetricsReported):
                items_item = items_item_data.to_dict()
            else:
                items_item = items_item_data.to_dict()

            items.append(items_item)

        next_cursor = self.next_cursor

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "items": items,
                "next_cursor": next_cursor,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.events_missed import EventsMissed  # noqa: PLC0415
        from ..models.queue_depth_reported import QueueDepthReported  # noqa: PLC0415
        from ..models.queue_paused import QueuePaused  # noqa: PLC0415
        from ..models.queue_resumed import QueueResumed  # noqa: PLC0415
        from ..models.system_metrics_reported import SystemMetricsReported  # noqa: PLC0415
        from ..models.task_cancelled import TaskCancelled  # noqa: PLC0415
        from ..models.task_completed import TaskCompleted  # noqa: PLC0415
        from ..models.task_dead_lettered import TaskDeadLettered  # noqa: PLC0415
        from ..models.task_failed import TaskFailed  # noqa: PLC0415
        from ..models.task_progress import TaskProgress  # noqa: PLC0415
        from ..models.task_queued import TaskQueued  # noqa: PLC0415
        from ..models.task_recovered import TaskRecovered  # noqa: PLC0415
        from ..models.task_retrying import TaskRetrying  # noqa: PLC0415
        from ..models.task_started import TaskStarted  # noqa: PLC0415
        from ..models.task_submitted import TaskSubmitted  # noqa: PLC0415
        from ..models.worker_joined import WorkerJoined  # noqa: PLC0415
        from ..models.worker_left import WorkerLeft  # noqa: PLC0415
        from ..models.worker_paused import WorkerPaused  # noqa: PLC0415
        from ..models.worker_resumed import WorkerResumed  # noqa: PLC0415

        d = dict(src_dict)
        items = []
        _items = d.pop("items")
        for items_item_data in _items:

            def _parse_items_item(
                data: object,
            ) -> (
                EventsMissed
                | QueueDepthReported
                | QueuePaused
                | QueueResumed
                | SystemMetricsReported
                | TaskCancelled
                | TaskCompleted
                | TaskDeadLettered
                | TaskFailed
                | TaskProgress
                | TaskQueued
                | TaskRecovered
                | TaskRetrying
                | TaskStarted
                | TaskSubmitted
                | WorkerJoined
                | WorkerLeft
                | WorkerPaused
                | WorkerResumed
            ):
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_0 = TaskSubmitted.from_dict(data)

                    return componentsschemas_event_type_0
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_1 = TaskQueued.from_dict(data)

                    return componentsschemas_event_type_1
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_2 = TaskStarted.from_dict(data)

                    return componentsschemas_event_type_2
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_3 = TaskCompleted.from_dict(data)

                    return componentsschemas_event_type_3
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_4 = TaskRetrying.from_dict(data)

                    return componentsschemas_event_type_4
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_5 = TaskFailed.from_dict(data)

                    return componentsschemas_event_type_5
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_6 = TaskDeadLettered.from_dict(data)

                    return componentsschemas_event_type_6
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_7 = TaskCancelled.from_dict(data)

                    return componentsschemas_event_type_7
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_8 = TaskRecovered.from_dict(data)

                    return componentsschemas_event_type_8
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_9 = TaskProgress.from_dict(data)

                    return componentsschemas_event_type_9
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_10 = WorkerJoined.from_dict(data)

                    return componentsschemas_event_type_10
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_11 = WorkerLeft.from_dict(data)

                    return componentsschemas_event_type_11
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_12 = WorkerPaused.from_dict(data)

                    return componentsschemas_event_type_12
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_13 = WorkerResumed.from_dict(data)

                    return componentsschemas_event_type_13
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_14 = QueuePaused.from_dict(data)

                    return componentsschemas_event_type_14
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_15 = QueueResumed.from_dict(data)

                    return componentsschemas_event_type_15
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_16 = QueueDepthReported.from_dict(data)

                    return componentsschemas_event_type_16
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                try:
                    if not isinstance(data, dict):
                        raise TypeError()
                    componentsschemas_event_type_17 = SystemMetricsReported.from_dict(data)

                    return componentsschemas_event_type_17
                except (TypeError, ValueError, AttributeError, KeyError):
                    pass
                if not isinstance(data, dict):
                    raise TypeError()
                componentsschemas_event_type_18 = EventsMissed.from_dict(data)

                return componentsschemas_event_type_18

            items_item = _parse_items_item(items_item_data)

            items.append(items_item)

        next_cursor = d.pop("next_cursor")

        event_page = cls(
            items=items,
            next_cursor=next_cursor,
        )

        event_page.additional_properties = d
        return event_page

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
