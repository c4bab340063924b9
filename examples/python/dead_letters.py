"""Look at dead letters and send them back to their queues. The key needs the scope admin.

Run it against a server: python dead_letters.py http://127.0.0.1:8080 your-api-key
"""

from __future__ import annotations

import sys

from taskqueue_client import TaskQueueClient


def main(url: str = "http://127.0.0.1:8080", api_key: str | None = None) -> None:
    """Make a dead letter, say why it died, and replay it."""
    with TaskQueueClient(url, api_key=api_key) as client:
        task = client.submit_task("fail", {"message": "mail server is down"}, max_retries=0)
        print(f"{task.id} is {client.wait(task.id, timeout=30).state}")

        for group in client.dlq.groups(error="mail server"):
            print(f"{group.count} of type {group.task_type} died of: {group.error}")
        for entry in client.dlq.list(error="mail server"):
            print(f"{entry.task_id} at {entry.added_at}: {entry.reason}")
        for attempt in client.list_attempts(task.id):
            print(f"attempt {attempt.attempt} failed by {attempt.worker_id}: {attempt.error}")

        # What was wrong is mended: once more, this time with another payload, or all together.
        client.dlq.retry(task.id, payload={"message": "still down"})
        again = client.wait(task.id, timeout=30)
        print(f"replayed: {again.deliveries} deliveries, {again.error}")
        found = client.dlq.retry_all(error="still down", dry_run=True)
        print(f"{found.matched_count} would be replayed")


if __name__ == "__main__":
    main(*sys.argv[1:])
