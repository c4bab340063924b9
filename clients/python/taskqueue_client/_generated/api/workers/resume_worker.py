from typing import Any
from urllib.parse import quote


def resume_worker(
    worker_id: str,
) -> dict[str, Any]:
    """Let a paused worker take tasks again"""

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/admin/workers/{worker_id}/resume".format(
            worker_id=quote(str(worker_id), safe=""),
        ),
    }
    return _kwargs
