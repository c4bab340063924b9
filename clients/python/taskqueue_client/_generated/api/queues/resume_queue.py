from typing import Any
from urllib.parse import quote

from ...models.priority import Priority


def resume_queue(
    priority: Priority,
) -> dict[str, Any]:
    """Let tasks of a paused priority start again"""

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/admin/queues/{priority}/resume".format(
            priority=quote(str(priority), safe=""),
        ),
    }
    return _kwargs
