from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define

from ..models.event_type import EventType
from ..models.subscription_request_action import SubscriptionRequestAction

T = TypeVar("T", bound="SubscriptionRequest")


@_attrs_define
class SubscriptionRequest:
    """Frame of a client. `subscribe` limits the stream to the named types and those subscribed
    before; `unsubscribe` takes types out again.

        Example:
            {'action': 'subscribe', 'events': ['task.completed']}

        Attributes:
            action (SubscriptionRequestAction):
            events (list[EventType]):
    """

    action: SubscriptionRequestAction
    events: list[EventType]

    def to_dict(self) -> dict[str, Any]:
        action = self.action.value

        events = []
        for events_item_data in self.events:
            events_item = events_item_data.value
            events.append(events_item)

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "action": action,
                "events": events,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        action = SubscriptionRequestAction(d.pop("action"))

        events = []
        _events = d.pop("events")
        for events_item_data in _events:
            events_item = EventType(events_item_data)

            events.append(events_item)

        subscription_request = cls(
            action=action,
            events=events,
        )

        return subscription_request
