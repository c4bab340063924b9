"""Submit a task for later.

Run it against a server: python scheduled.py http://127.0.0.1:8080 your-api-key
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from taskqueue_client import TaskQueueClient


def main(url: str = "http://127.0.0.1:8080", api_key: str | None = None) -> None:
    """Submit a task for a second from now and see when it starts."""
    with TaskQueueClient(url, api_key=api_key) as client:
        at = datetime.now(UTC) + timedelta(seconds=1)
        task = client.submit_task("echo", {"message": "good morning"}, scheduled_at=at)
        print(f"{task.id} is {task.state}")
        done = client.wait(task.id, timeout=30)
        if done.started_at is not None:
            late = (done.started_at - at) / timedelta(milliseconds=1)
            print(f"{done.state}, started {late:.0f} ms after its time")


if __name__ == "__main__":
    main(*sys.argv[1:])
