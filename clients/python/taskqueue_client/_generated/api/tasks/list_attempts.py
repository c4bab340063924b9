from typing import Any
from urllib.parse import quote


def list_attempts(
    task_id: str,
) -> dict[str, Any]:
    """List the failed attempts of a task"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/tasks/{task_id}/attempts".format(
            task_id=quote(str(task_id), safe=""),
        ),
    }
    return _kwargs
