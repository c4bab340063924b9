from typing import Any
from urllib.parse import quote


def pause_worker(
    worker_id: str,
) -> dict[str, Any]:
    """Stop a worker from taking new tasks"""

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/admin/workers/{worker_id}/pause".format(
            worker_id=quote(str(worker_id), safe=""),
        ),
    }
    return _kwargs
