from typing import Any

from ...types import UNSET, Unset


def list_dead_letters(
    *,
    type_: str | Unset = UNSET,
    queue: str | Unset = UNSET,
    reason: str | Unset = UNSET,
    error: str | Unset = UNSET,
    limit: int | Unset = 100,
    cursor: str | Unset = UNSET,
) -> dict[str, Any]:
    """List dead letters"""

    params: dict[str, Any] = {}

    params["type"] = type_

    params["queue"] = queue

    params["reason"] = reason

    params["error"] = error

    params["limit"] = limit

    params["cursor"] = cursor

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/admin/dlq",
        "params": params,
    }
    return _kwargs
