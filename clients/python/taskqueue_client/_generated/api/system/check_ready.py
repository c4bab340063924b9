from typing import Any


def check_ready() -> dict[str, Any]:
    """Tell an orchestrator whether requests may be sent here"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/health/ready",
    }
    return _kwargs
