"""Cancelling a task that runs, through HTTP: who asked for it, what is answered, what is shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fleet import FakeWorker

from taskqueue_core.broker import Broker
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import NewTask

pytestmark = pytest.mark.anyio


async def submit(broker: Broker, **fields: Any) -> str:
    """Submit a task; return its path."""
    task = NewTask(id=broker.new_task_id(), type="echo", **fields)
    return f"/api/v1/tasks/{(await broker.submit(task)).id}"


async def test_a_running_task(
    client: httpx.AsyncClient, broker: Broker, worker: FakeWorker
) -> None:
    """It goes on, and says that it is asked to stop, until its attempt has ended."""
    path = await submit(broker)
    delivery = await worker.take()
    assert "cancel_requested" not in (await client.get(path)).json()
    answers = [await client.delete(path, params={"running": "true"}) for _ in range(2)]
    for answer in answers:
        task = answer.json()
        assert (answer.status_code, task["state"]) == (202, "running")
        assert task["cancel_requested"] is True
    assert answers[0].json() == answers[1].json() == (await client.get(path)).json()
    key = broker.partitions[0].control(worker.id)
    message = f"cancel {id_to_hex(path.rpartition('/')[2])} {delivery.number}"
    redis: Any = broker.redis
    assert await redis.lrange(key, 0, -1) == [message.encode()]
    await worker.fail(delivery, "stopped", max_retries=3)
    task = (await client.get(path)).json()
    assert (task["state"], task["error"]) == ("cancelled", "stopped")
    assert "cancel_requested" not in task
    assert (await client.delete(path, params={"running": "true"})).status_code == 409


@pytest.mark.parametrize("query", ["", "?running=false"])
async def test_not_unless_it_is_asked_for(
    client: httpx.AsyncClient, broker: Broker, worker: FakeWorker, query: str
) -> None:
    """Without the wish a running task is refused, and the refusal says how it can be stopped."""
    path = await submit(broker)
    await worker.take()
    answer = await client.delete(path + query)
    assert answer.status_code == 409
    assert "with running=true" in answer.json()["message"]
    assert "cancel_requested" not in (await client.get(path)).json()


async def test_what_does_not_run(
    client: httpx.AsyncClient, broker: Broker, worker: FakeWorker
) -> None:
    """The wish changes nothing for other tasks: 200 at once, 409 at the end, 404 without one."""
    path = await submit(broker)
    answer = await client.delete(path + "?running=true")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    path = await submit(broker)
    await worker.complete(await worker.take())
    assert (await client.delete(path + "?running=true")).status_code == 409
    missing = f"/api/v1/tasks/{broker.new_task_id()}?running=true"
    assert (await client.delete(missing)).status_code == 404


@pytest.mark.parametrize("value", ["yes", "1", "", "TRUE"])
async def test_a_wish_that_is_none(client: httpx.AsyncClient, broker: Broker, value: str) -> None:
    """It is refused with the field and the rule, and the task waits on."""
    path = await submit(broker)
    answer = await client.delete(path, params={"running": value})
    assert (answer.status_code, answer.json()["field"]) == (400, "running")
    assert answer.json()["message"] == "running: must be true or false"
    assert (await client.get(path)).json()["state"] == "pending"


async def test_work_that_is_done(
    client: httpx.AsyncClient, broker: Broker, worker: FakeWorker
) -> None:
    """A task that is completed all the same is completed, with its result."""
    path = await submit(broker)
    delivery = await worker.take()
    assert (await client.delete(path + "?running=true")).status_code == 202
    await worker.complete(delivery, b"1")
    task = (await client.get(path)).json()
    assert (task["state"], task["result"], "cancel_requested" in task) == ("completed", 1, False)
