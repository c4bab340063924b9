"""Task types: what live workers publish of them, and payloads that do not fit."""

from __future__ import annotations

import httpx
import pytest
from fleet import FakeWorker

from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin.schemas import HandlerSchemas

pytestmark = pytest.mark.anyio

MAIL = HandlerSchemas(
    payload={
        "type": "object",
        "required": ["to"],
        "properties": {"to": {"type": "string"}, "n": {"$ref": "#/$defs/N"}},
        "$defs": {"N": {"type": "integer"}},
    },
    result={"type": "string"},
)
INFO = HandlerInfo(
    queue="slow",
    timeout_seconds=30,
    max_retries=5,
    distribution="mailer",
    version="1.2",
    executor="async",
)


async def test_list(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """By name, with what their handlers say and what is known of their schemas."""
    await worker.register({"mail": INFO, "echo": HandlerInfo()}, {"mail": MAIL})
    found = (await client.get("/api/v1/task-types")).json()
    echo, mail = found["items"]
    assert echo == {
        "type": "echo",
        "queue": "default",
        "timeout": 300,
        "max_retries": 3,
        "executor": "",
        "distribution": "",
        "version": "",
        "worker_count": 1,
    }
    assert mail == {
        "type": "mail",
        "queue": "slow",
        "timeout": 30,
        "max_retries": 5,
        "executor": "async",
        "distribution": "mailer",
        "version": "1.2",
        "worker_count": 1,
        "payload_schema": MAIL.payload,
        "result_schema": MAIL.result,
    }


async def test_without_workers(client: httpx.AsyncClient) -> None:
    """Nobody handles anything, and anything may be submitted."""
    assert (await client.get("/api/v1/task-types")).json() == {"items": []}
    answer = await client.post("/api/v1/tasks", json={"type": "mail", "payload": {"to": 5}})
    assert answer.status_code == 201


@pytest.mark.parametrize("payload", [{"to": 5}, {}, None, {"n": 1}])
async def test_submissions_are_checked(
    client: httpx.AsyncClient, worker: FakeWorker, payload: object
) -> None:
    """What its worker would refuse is refused at once, with a pointer into the payload."""
    await worker.register({}, {"mail": MAIL})
    answer = await client.post("/api/v1/tasks", json={"type": "mail", "payload": payload})
    assert (answer.status_code, answer.json()["type"][-15:]) == (400, "invalid-request")
    assert answer.json()["field"] == "payload/to"
    fine = {"to": "a@example.com", "n": 2**70}
    accepted = await client.post("/api/v1/tasks", json={"type": "mail", "payload": fine})
    assert accepted.status_code == 201
    other = await client.post("/api/v1/tasks", json={"type": "other", "payload": payload})
    assert other.status_code == 201


async def test_batches_are_checked(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """An item that does not fit is refused alone."""
    await worker.register({}, {"mail": MAIL})
    tasks = [{"type": "mail", "payload": {"to": to}} for to in ("a@example.com", 5)]
    answer = (await client.post("/api/v1/tasks/batch", json={"tasks": tasks})).json()
    assert [item["status"] for item in answer["items"]] == [201, 400]
    assert "payload/to" in answer["items"][1]["message"]
