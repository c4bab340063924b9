from typing import Any


def get_metrics() -> dict[str, Any]:
    """Get Prometheus metrics"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/metrics",
    }
    return _kwargs
