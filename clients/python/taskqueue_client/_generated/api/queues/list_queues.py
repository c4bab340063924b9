from typing import Any


def list_queues() -> dict[str, Any]:
    """Get queue statistics"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/admin/queues",
    }
    return _kwargs
