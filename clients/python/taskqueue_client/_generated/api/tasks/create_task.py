from typing import Any

from ...models.create_task_request import CreateTaskRequest
from ...types import UNSET, Unset


def create_task(
    *,
    body: CreateTaskRequest,
    idempotency_key: str | Unset = UNSET,
) -> dict[str, Any]:
    """Submit a new task"""
    headers: dict[str, Any] = {}
    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/api/v1/tasks",
    }
    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"
    _kwargs["headers"] = headers
    return _kwargs
