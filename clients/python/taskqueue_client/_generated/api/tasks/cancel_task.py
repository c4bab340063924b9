from typing import Any
from urllib.parse import quote

from ...types import UNSET, Unset


def cancel_task(
    task_id: str,
    *,
    running: bool | Unset = False,
) -> dict[str, Any]:
    """Cancel a task"""

    params: dict[str, Any] = {}

    params["running"] = running

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "delete",
        "url": "/api/v1/tasks/{task_id}".format(
            task_id=quote(str(task_id), safe=""),
        ),
        "params": params,
    }
    return _kwargs
