from typing import Any

from ...types import UNSET, Unset


def list_dead_letter_groups(
    *,
    type_: str | Unset = UNSET,
    queue: str | Unset = UNSET,
    reason: str | Unset = UNSET,
    error: str | Unset = UNSET,
) -> dict[str, Any]:
    """Count dead letters by type, reason and error"""

    params: dict[str, Any] = {}

    params["type"] = type_

    params["queue"] = queue

    params["reason"] = reason

    params["error"] = error

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/admin/dlq/groups",
        "params": params,
    }
    return _kwargs
