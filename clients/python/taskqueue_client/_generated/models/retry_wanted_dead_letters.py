from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.dead_letter_filter import DeadLetterFilter


T = TypeVar("T", bound="RetryWantedDeadLetters")


@_attrs_define
class RetryWantedDeadLetters:
    """
    Example:
        {'filter': {'type': 'email', 'error': 'connection refused'}, 'dry_run': True}

    Attributes:
        filter_ (DeadLetterFilter): What a dead letter must be; at least one of these. Example: {'type': 'email',
            'error': 'connection refused'}.
        dry_run (bool | None | Unset): Count only, change nothing.
    """

    filter_: DeadLetterFilter
    dry_run: bool | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        filter_ = self.filter_.to_dict()

        dry_run: bool | None | Unset
        if isinstance(self.dry_run, Unset):
            dry_run = UNSET
        else:
            dry_run = self.dry_run

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "filter": filter_,
            }
        )
        if dry_run is not UNSET:
            field_dict["dry_run"] = dry_run

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.dead_letter_filter import DeadLetterFilter  # noqa: PLC0415

        d = dict(src_dict)
        filter_ = DeadLetterFilter.from_dict(d.pop("filter"))

        def _parse_dry_run(data: object) -> bool | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(bool | None | Unset, data)

        dry_run = _parse_dry_run(d.pop("dry_run", UNSET))

        retry_wanted_dead_letters = cls(
            filter_=filter_,
            dry_run=dry_run,
        )

        return retry_wanted_dead_letters
