from typing import Any
from urllib.parse import quote

from ...types import UNSET, Unset


def get_task(
    task_id: str,
    *,
    wait: float | Unset = 0.0,
) -> dict[str, Any]:
    """Get a task"""

    params: dict[str, Any] = {}

    params["wait"] = wait

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/tasks/{task_id}".format(
            task_id=quote(str(task_id), safe=""),
        ),
        "params": params,
    }
    return _kwargs
