from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskType")


@_attrs_define
class TaskType:
    """What a task type means to the worker that started last of those that handle it, with the limits
    of tasks that name none.

        Example:
            {'type': 'email', 'queue': 'default', 'timeout': 30, 'max_retries': 5, 'executor': 'async', 'distribution':
                'taskqueue-email', 'version': '1.0.0', 'worker_count': 2, 'payload_schema': {'type': 'object', 'required':
                ['to'], 'properties': {'to': {'type': 'string'}}}}

        Attributes:
            type_ (str): Name of a task type, a queue or a worker. Example: email.
            queue (str): Name of a task type, a queue or a worker. Example: email.
            timeout (int): Seconds an attempt may take.
            max_retries (int):
            executor (str): Where it runs, `async`, `thread` or `process`; empty when it is not known.
            distribution (str): The package that it comes with.
            version (str): Version of that package.
            worker_count (int): Live workers that handle it.
            payload_schema (Any | Unset): A JSON Schema, draft 2020-12; its references are to its own `$defs`.
            result_schema (Any | Unset): A JSON Schema, draft 2020-12; its references are to its own `$defs`.
    """

    type_: str
    queue: str
    timeout: int
    max_retries: int
    executor: str
    distribution: str
    version: str
    worker_count: int
    payload_schema: Any | Unset = UNSET
    result_schema: Any | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        queue = self.queue

        timeout = self.timeout

        max_retries = self.max_retries

        executor = self.executor

        distribution = self.distribution

        version = self.version

        worker_count = self.worker_count

        payload_schema = self.payload_schema

        result_schema = self.result_schema

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "type": type_,
                "queue": queue,
                "timeout": timeout,
                "max_retries": max_retries,
                "executor": executor,
                "distribution": distribution,
                "version": version,
                "worker_count": worker_count,
            }
        )
        if payload_schema is not UNSET:
            field_dict["payload_schema"] = payload_schema
        if result_schema is not UNSET:
            field_dict["result_schema"] = result_schema

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        type_ = d.pop("type")

        queue = d.pop("queue")

        timeout = d.pop("timeout")

        max_retries = d.pop("max_retries")

        executor = d.pop("executor")

        distribution = d.pop("distribution")

        version = d.pop("version")

        worker_count = d.pop("worker_count")

        payload_schema = d.pop("payload_schema", UNSET)

        result_schema = d.pop("result_schema", UNSET)

        task_type = cls(
            type_=type_,
            queue=queue,
            timeout=timeout,
            max_retries=max_retries,
            executor=executor,
            distribution=distribution,
            version=version,
            worker_count=worker_count,
            payload_schema=payload_schema,
            result_schema=result_schema,
        )

        task_type.additional_properties = d
        return task_type

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
