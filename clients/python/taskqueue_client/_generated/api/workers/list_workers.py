from typing import Any


def list_workers() -> dict[str, Any]:
    """List live workers"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/admin/workers",
    }
    return _kwargs
