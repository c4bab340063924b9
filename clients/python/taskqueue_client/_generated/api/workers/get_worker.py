from typing import Any
from urllib.parse import quote


def get_worker(
    worker_id: str,
) -> dict[str, Any]:
    """Get a live worker, its handlers and what it runs"""

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/admin/workers/{worker_id}".format(
            worker_id=quote(str(worker_id), safe=""),
        ),
    }
    return _kwargs
