from typing import Any

from ...models.event_type import EventType
from ...types import UNSET, Unset


def list_events(
    *,
    after: str | Unset = UNSET,
    limit: int | Unset = 100,
    events: list[EventType] | Unset = UNSET,
    task_id: str | Unset = UNSET,
) -> dict[str, Any]:
    """List past events"""

    params: dict[str, Any] = {}

    params["after"] = after

    params["limit"] = limit

    json_events: list[str] | Unset = UNSET
    if not isinstance(events, Unset):
        json_events = []
        for events_item_data in events:
            events_item = events_item_data.value
            json_events.append(events_item)

    params["events"] = json_events

    params["task_id"] = task_id

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/events",
        "params": params,
    }
    return _kwargs
