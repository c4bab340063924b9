from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..types import UNSET, Unset

T = TypeVar("T", bound="Problem")


@_attrs_define
class Problem:
    """An error, as RFC 9457 problem details and in the two fields older clients read.

    Example:
        {'error': 'Bad Request', 'message': 'priority: 9 is greater than the maximum of 3', 'type':
            'urn:taskqueue:problem:invalid-request', 'title': 'Bad Request', 'status': 400, 'detail': 'priority: 9 is
            greater than the maximum of 3', 'field': 'priority'}

    Attributes:
        error (str): Text of the HTTP status.
        message (str): What happened, with which id, and what to do next.
        type_ (str): Stable name of the kind of problem.
        title (str): Text of the HTTP status.
        status (int):
        detail (str): Same as `message`.
        field (str | Unset): The field that breaks a rule.
        request_id (str | Unset): Id of the request, as in the header `X-Request-ID`: the one that was sent, if it is 1
            to
            64 letters, digits, `.`, `_` or `-`, else one of the server's.
    """

    error: str
    message: str
    type_: str
    title: str
    status: int
    detail: str
    field: str | Unset = UNSET
    request_id: str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        error = self.error

        message = self.message

        type_ = self.type_

        title = self.title

        status = self.status

        detail = self.detail

        field = self.field

        request_id = self.request_id

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "error": error,
                "message": message,
                "type": type_,
                "title": title,
                "status": status,
                "detail": detail,
            }
        )
        if field is not UNSET:
            field_dict["field"] = field
        if request_id is not UNSET:
            field_dict["request_id"] = request_id

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        error = d.pop("error")

        message = d.pop("message")

        type_ = d.pop("type")

        title = d.pop("title")

        status = d.pop("status")

        detail = d.pop("detail")

        field = d.pop("field", UNSET)

        request_id = d.pop("request_id", UNSET)

        problem = cls(
            error=error,
            message=message,
            type_=type_,
            title=title,
            status=status,
            detail=detail,
            field=field,
            request_id=request_id,
        )

        problem.additional_properties = d
        return problem

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
