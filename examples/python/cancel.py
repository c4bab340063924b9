"""Cancel tasks: one that waits, and one that runs.

Run it against a server: python cancel.py http://127.0.0.1:8080 your-api-key
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from taskqueue_client import ConflictError, TaskQueueClient


def main(url: str = "http://127.0.0.1:8080", api_key: str | None = None) -> None:
    """Cancel a task that waits, then one that runs."""
    with TaskQueueClient(url, api_key=api_key) as client:
        later = client.submit_task("echo", scheduled_at=datetime.now(UTC) + timedelta(hours=1))
        print(f"waiting: {client.cancel_task(later.id).state}")

        with client.events("task.started") as events:
            running = client.submit_task("sleep", {"duration_seconds": 60})
            while getattr(events.receive(timeout=30).data, "task_id", None) != running.id:
                pass
        try:
            client.cancel_task(running.id)
        except ConflictError as error:
            print(f"not without asking: {error.message}")
        client.cancel_task(running.id, running=True)
        print(f"running: {client.wait(running.id, timeout=30).state}")


if __name__ == "__main__":
    main(*sys.argv[1:])
