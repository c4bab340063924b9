"""Wait for results: of one task, of one that fails, and of many at the same time.

Run it against a server: python wait.py http://127.0.0.1:8080 your-api-key
"""

from __future__ import annotations

import asyncio
import sys

from taskqueue_client import AsyncTaskQueueClient, TaskFailedError, TaskQueueClient


def wait_for_one(client: TaskQueueClient) -> None:
    """Wait for a result, and for a task that has none."""
    task = client.submit_task("compute", {"iterations": 1_000_000})
    print(f"the result is {client.result(task.id, timeout=30)}")

    failing = client.submit_task("fail", {"message": "no luck"}, max_retries=0)
    try:
        client.result(failing.id, timeout=30)
    except TaskFailedError as error:
        print(f"no result: {error.task.state}, {error.task.error}")


async def wait_for_many(url: str, api_key: str | None) -> None:
    """Wait for many tasks at the same time, without a thread for each."""
    async with AsyncTaskQueueClient(url, api_key=api_key) as client:
        tasks = [await client.submit_task("echo", {"number": number}) for number in range(20)]
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(client.result(task.id)) for task in tasks]
        print(f"{len(waiting)} results, the last: {waiting[-1].result()['echoed']}")


def main(url: str = "http://127.0.0.1:8080", api_key: str | None = None) -> None:
    """Wait in both ways."""
    with TaskQueueClient(url, api_key=api_key) as client:
        wait_for_one(client)
    asyncio.run(wait_for_many(url, api_key))


if __name__ == "__main__":
    main(*sys.argv[1:])
