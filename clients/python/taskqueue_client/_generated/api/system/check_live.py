from typing import Any


def check_live() -> dict[str, Any]:
    """Tell an orchestrator that this process lives"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/health/live",
    }
    return _kwargs
