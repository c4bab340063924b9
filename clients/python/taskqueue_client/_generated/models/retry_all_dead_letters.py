from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

T = TypeVar("T", bound="RetryAllDeadLetters")


@_attrs_define
class RetryAllDeadLetters:
    """
    Example:
        {'retry_all': True}

    Attributes:
        retry_all (bool):
        dry_run (bool | None | Unset): Count only, change nothing.
    """

    retry_all: bool
    dry_run: bool | None | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        retry_all = self.retry_all

        dry_run: bool | None | Unset
        if isinstance(self.dry_run, Unset):
            dry_run = UNSET
        else:
            dry_run = self.dry_run

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "retry_all": retry_all,
            }
        )
        if dry_run is not UNSET:
            field_dict["dry_run"] = dry_run

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        retry_all = d.pop("retry_all")

        def _parse_dry_run(data: object) -> bool | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(bool | None | Unset, data)

        dry_run = _parse_dry_run(d.pop("dry_run", UNSET))

        retry_all_dead_letters = cls(
            retry_all=retry_all,
            dry_run=dry_run,
        )

        return retry_all_dead_letters
