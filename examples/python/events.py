"""Follow tasks as they happen.

Run it against a server: python events.py http://127.0.0.1:8080 your-api-key
"""

from __future__ import annotations

import sys

from taskqueue_client import EventsMissed, TaskQueueClient
from taskqueue_client.events import TaskCompleted, TaskStarted, TaskSubmitted


def main(url: str = "http://127.0.0.1:8080", api_key: str | None = None) -> None:
    """Submit tasks and follow them until all are completed."""
    types = ("task.submitted", "task.started", "task.completed")
    with TaskQueueClient(url, api_key=api_key) as client, client.events(*types) as events:
        waiting = {client.submit_task("echo", {"number": number}).id for number in range(5)}
        while waiting:
            # Without a timeout, a loop over `events` does the same.
            match events.receive(timeout=30):
                case TaskSubmitted() as event:
                    print(f"submitted {event.data.task_id}")
                case TaskStarted() as event:
                    print(f"started   {event.data.task_id} by {event.data.worker_id}")
                case TaskCompleted() as event:
                    print(f"completed {event.data.task_id} in {event.data.duration_ms} ms")
                    waiting.discard(event.data.task_id)
                case EventsMissed() as gap:
                    print(f"{gap.data.missed} events are missing: {gap.data.reason}")
                    waiting = {one for one in waiting if not client.get_task(one).completed_at}
        print(f"all completed; go on later with since={events.cursor}")


if __name__ == "__main__":
    main(*sys.argv[1:])
