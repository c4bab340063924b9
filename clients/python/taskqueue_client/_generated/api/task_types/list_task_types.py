from typing import Any


def list_task_types() -> dict[str, Any]:
    """List the task types that live workers handle"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/task-types",
    }
    return _kwargs
