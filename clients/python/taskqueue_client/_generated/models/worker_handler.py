from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="WorkerHandler")


@_attrs_define
class WorkerHandler:
    """A handler of one worker. Without a limit the settings decide.

    Example:
        {'type': 'email', 'queue': 'default', 'executor': 'async', 'distribution': 'taskqueue-email', 'version':
            '1.0.0'}

    Attributes:
        type_ (str): Name of a task type, a queue or a worker. Example: email.
        queue (str): Name of a task type, a queue or a worker. Example: email.
        executor (str): Where it runs, `async`, `thread` or `process`; empty when it is not known.
        distribution (str): The package that it comes with.
        version (str): Version of that package.
        timeout (int | Unset): Seconds an attempt may take.
        max_retries (int | Unset):
    """

    type_: str
    queue: str
    executor: str
    distribution: str
    version: str
    timeout: int | Unset = UNSET
    max_retries: int | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        queue = self.queue

        executor = self.executor

        distribution = self.distribution

        version = self.version

        timeout = self.timeout

        max_retries = self.max_retries

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "type": type_,
                "queue": queue,
                "executor": executor,
                "distribution": distribution,
                "version": version,
            }
        )
        if timeout is not UNSET:
            field_dict["timeout"] = timeout
        if max_retries is not UNSET:
            field_dict["max_retries"] = max_retries

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = d.pop("type")

        queue = d.pop("queue")

        executor = d.pop("executor")

        distribution = d.pop("distribution")

        version = d.pop("version")

        timeout = d.pop("timeout", UNSET)

        max_retries = d.pop("max_retries", UNSET)

        worker_handler = cls(
            type_=type_,
            queue=queue,
            executor=executor,
            distribution=distribution,
            version=version,
            timeout=timeout,
            max_retries=max_retries,
        )

        worker_handler.additional_properties = d
        return worker_handler

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
