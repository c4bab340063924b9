from typing import Any
from urllib.parse import quote

from ...models.priority import Priority


def pause_queue(
    priority: Priority,
) -> dict[str, Any]:
    """Start no task of a priority until it is resumed"""

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/admin/queues/{priority}/pause".format(
            priority=quote(str(priority), safe=""),
        ),
    }
    return _kwargs
