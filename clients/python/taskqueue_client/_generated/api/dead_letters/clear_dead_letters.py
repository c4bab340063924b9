from typing import Any


def clear_dead_letters() -> dict[str, Any]:
    """Clear the dead letters"""

    _kwargs: dict[str, Any] = {
        "method": "delete",
        "url": "/admin/dlq",
    }
    return _kwargs
