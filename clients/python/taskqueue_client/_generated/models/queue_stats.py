from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.queue_depths import QueueDepths
    from ..models.queue_totals import QueueTotals


T = TypeVar("T", bound="QueueStats")


@_attrs_define
class QueueStats:
    """
    Attributes:
        queues (QueueDepths):
        scheduled_count (int): Scheduled and retrying tasks.
        dlq_size (int):
        totals (QueueTotals):  Example: {'queued': 14, 'pending_unacked': 2, 'deferred': 5}.
    """

    queues: QueueDepths
    scheduled_count: int
    dlq_size: int
    totals: QueueTotals
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        queues = self.queues.to_dict()

        scheduled_count = self.scheduled_count

        dlq_size = self.dlq_size

        totals = self.totals.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "queues": queues,
                "scheduled_count": scheduled_count,
                "dlq_size": dlq_size,
                "totals": totals,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.queue_depths import QueueDepths  # noqa: PLC0415
        from ..models.queue_totals import QueueTotals  # noqa: PLC0415

        d = dict(src_dict)
        queues = QueueDepths.from_dict(d.pop("queues"))

        scheduled_count = d.pop("scheduled_count")

        dlq_size = d.pop("dlq_size")

        totals = QueueTotals.from_dict(d.pop("totals"))

        queue_stats = cls(
            queues=queues,
            scheduled_count=scheduled_count,
            dlq_size=dlq_size,
            totals=totals,
        )

        queue_stats.additional_properties = d
        return queue_stats

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
