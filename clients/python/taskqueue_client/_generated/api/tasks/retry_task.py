from typing import Any
from urllib.parse import quote


def retry_task(
    task_id: str,
) -> dict[str, Any]:
    """Send a finished task back to its queue"""

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/admin/tasks/{task_id}/retry".format(
            task_id=quote(str(task_id), safe=""),
        ),
    }
    return _kwargs
