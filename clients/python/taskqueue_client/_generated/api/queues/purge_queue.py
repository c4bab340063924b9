from typing import Any
from urllib.parse import quote

from ...models.priority import Priority


def purge_queue(
    priority: Priority,
) -> dict[str, Any]:
    """Cancel all waiting tasks of a priority"""

    _kwargs: dict[str, Any] = {
        "method": "delete",
        "url": "/admin/queues/{priority}".format(
            priority=quote(str(priority), safe=""),
        ),
    }
    return _kwargs
