"""Submit tasks, one by one and many at once.

Run it against a server: python submit.py http://127.0.0.1:8080 your-api-key
"""

from __future__ import annotations

import sys

from taskqueue_client import NewTask, TaskQueueClient


def main(url: str = "http://127.0.0.1:8080", api_key: str | None = None) -> None:
    """Submit tasks and say what became of them."""
    with TaskQueueClient(url, api_key=api_key) as client:
        task = client.submit_task(
            "echo",
            {"message": "Hello, World!"},
            priority="high",
            max_retries=5,
            timeout=60,
            metadata={"user_id": "123"},
        )
        print(f"submitted {task.id}: {task.state}, {task.priority}")

        # The same key again is the same task, however often it is sent.
        order = f"order-{task.id}"
        first = client.submit_task("echo", {"order": 4711}, idempotency_key=order)
        again = client.submit_task("echo", {"order": 4711}, idempotency_key=order)
        print(f"submitted once: {first.id == again.id}")

        tasks = [NewTask(type="echo", payload={"number": number}) for number in range(10)]
        batch = client.submit_batch(tasks)
        print(f"batch: {batch.accepted_count} accepted, {batch.refused_count} refused")
        for item in batch.items:
            if item.task is None:
                print(f"refused with {item.status}: {item.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
