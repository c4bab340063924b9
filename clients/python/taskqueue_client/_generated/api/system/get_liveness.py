from typing import Any


def get_liveness() -> dict[str, Any]:
    """Tell a load balancer that this process answers"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/health",
    }
    return _kwargs
