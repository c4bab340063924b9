"""``create_tasks``: many tasks in one request, each accepted or refused by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fleet import FakeWorker
from limited import with_queue

from taskqueue_core.broker import Broker
from taskqueue_core.broker.scripts import Argument, Scripts
from taskqueue_core.models import HandlerInfo
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]

_PATH = "/api/v1/tasks/batch"


def later(days: int) -> str:
    """Return a time so many days ahead."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


async def send(client: httpx.AsyncClient, tasks: Sequence[Any], **headers: str) -> dict[str, Any]:
    """Submit a batch and return the answer."""
    response = await client.post(_PATH, json={"tasks": tasks}, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_every_task_has_its_answer(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Items are in the order of the request, and show the tasks as GET does."""
    await worker.register({name: HandlerInfo() for name in ("first", "second", "third")})
    sent = [
        {"type": "first", "priority": 3, "payload": {"n": 1}},
        {"type": "second", "queue": "mail", "metadata": {"a": "b"}},
        {"type": "third", "scheduled_at": later(1), "payload": None, "priority": None},
    ]
    answer = await send(client, sent)
    assert (answer["accepted_count"], answer["refused_count"]) == (3, 0)
    assert [item["status"] for item in answer["items"]] == [201] * 3
    tasks = [item["task"] for item in answer["items"]]
    assert [task["type"] for task in tasks] == ["first", "second", "third"]
    assert [task["state"] for task in tasks] == ["pending", "pending", "scheduled"]
    for task in tasks:
        assert (await client.get(f"/api/v1/tasks/{task['id']}")).json() == task


async def test_payloads_come_back_as_the_bytes_that_were_sent(client: httpx.AsyncClient) -> None:
    """Each task keeps its own slice of the body."""
    payloads = [b'{ "big":18446744073709551617}', b'{"f":1.50}', b'{"u":"\\u00e9"}']
    tasks = b",".join(b'{"type":"echo","payload":%b}' % payload for payload in payloads)
    headers = {"content-type": "application/json"}
    response = await client.post(_PATH, content=b'{"tasks":[%b]}' % tasks, headers=headers)
    for payload, item in zip(payloads, response.json()["items"], strict=True):
        stored = await client.get(f"/api/v1/tasks/{item['task']['id']}")
        assert payload in response.content
        assert payload in stored.content


async def test_handler_defaults_hold(client: httpx.AsyncClient, broker: Broker) -> None:
    """A task that names no queue goes where its handler says."""
    await FakeWorker(broker).register({"email": HandlerInfo(queue="mail", timeout_seconds=30)})
    answer = await send(client, [{"type": "email"}, {"type": "email", "queue": "own"}])
    tasks = [item["task"] for item in answer["items"]]
    assert [(task["queue"], task["timeout"]) for task in tasks] == [("mail", 30), ("own", 30)]


async def test_what_no_schema_can_say_is_told_for_each(
    client: httpx.AsyncClient, broker: Broker
) -> None:
    """A task with a time too far ahead is refused with its field, the others are accepted."""
    sent = [{"type": "a"}, {"type": "b", "scheduled_at": later(366)}, {"type": "c"}]
    answer = await send(client, sent)
    assert (answer["accepted_count"], answer["refused_count"]) == (2, 1)
    item = answer["items"][1]
    assert (item["status"], item["error"], item["field"]) == (400, "Bad Request", "scheduled_at")
    assert "within 365 days" in item["message"]
    assert (await broker.inspection.queue_stats()).backlog == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "tasks"),
        ({"tasks": []}, "tasks"),
        ({"tasks": None}, "tasks"),
        ({"tasks": [{"type": "echo"}] * 1_001}, "tasks"),
        ({"tasks": [{"type": "echo"}], "more": 1}, "more"),
        ({"tasks": [{"type": "echo"}, 5]}, "tasks/1"),
        ({"tasks": [*[{"type": "echo"}] * 3, {"type": "echo", "priority": 9}]}, "tasks/3/priority"),
        ({"tasks": [{"type": "echo"}, {"payload": {}}]}, "tasks/1/type"),
        ({"tasks": [{"type": "echo", "metadata": {"a": 1}}]}, "tasks/0/metadata/a"),
        ({"tasks": [{"type": "echo", "state": "done"}]}, "tasks/0/state"),
    ],
)
async def test_a_body_that_breaks_the_contract(
    client: httpx.AsyncClient, broker: Broker, body: dict[str, Any], field: str
) -> None:
    """It is refused as a whole, with the place; nothing of it is stored."""
    response = await client.post(_PATH, json=body)
    assert (response.status_code, response.json()["field"]) == (400, field)
    assert (await broker.inspection.queue_stats()).backlog == 0


async def test_full_queue(settings: Settings, serving: Serving) -> None:
    """What has no room is refused, what comes before it is accepted."""
    async with serving(with_queue(settings, max_queue_size=3)) as client:
        answer = await send(client, [{"type": "echo"}] * 5)
    assert [item["status"] for item in answer["items"]] == [201] * 3 + [503] * 2
    assert "the queue is full" in answer["items"][4]["message"]


async def test_too_many_queues(settings: Settings, serving: Serving) -> None:
    """One queue too many is the fault of the tasks that name it."""
    async with serving(with_queue(settings, max_queues=1)) as client:
        answer = await send(client, [{"type": "a", "queue": name} for name in ("x", "y", "x")])
    assert [item["status"] for item in answer["items"]] == [201, 400, 201]
    assert answer["items"][1]["field"] == "queue"


async def test_a_round_trip_takes_a_hundred(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is not sent task by task."""
    sizes: list[int] = []
    call = Scripts.call

    async def record(
        self: Scripts, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        if name == "submit":
            sizes.append(len(keys) - 1)
        return await call(self, name, keys, arguments)

    monkeypatch.setattr(Scripts, "call", record)
    answer = await send(client, [{"type": "echo"}] * 250)
    assert sizes == [100, 100, 50]
    assert len({item["task"]["id"] for item in answer["items"]}) == 250


async def test_the_path_is_no_task(client: httpx.AsyncClient) -> None:
    """There is nothing to be read or cancelled under the name of the batch."""
    for method in ("GET", "DELETE"):
        response = await client.request(method, _PATH)
        assert (response.status_code, response.headers["allow"]) == (405, "OPTIONS, POST")
