from typing import Any


def get_queue_stats() -> dict[str, Any]:
    """Get queue depths"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/tasks",
    }
    return _kwargs
