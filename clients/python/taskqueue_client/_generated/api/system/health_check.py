from typing import Any


def health_check() -> dict[str, Any]:
    """Check the service and its broker"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/admin/health",
    }
    return _kwargs
