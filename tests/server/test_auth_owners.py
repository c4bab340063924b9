"""Owners: a key or token with an owner sees and changes that owner's tasks, and no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from answers import operations
from checked import serve
from credentials import bearer, guarded, token
from fleet import FakeWorker
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from taskqueue_core.broker import Broker, key_id, open_broker
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.keyring import MAX_AGE_SECONDS
from taskqueue_server.websocket import RECHECK_MS

pytestmark = pytest.mark.anyio

ACME = bearer(token(scope="tasks:read tasks:write", owner="acme", sub="acme-1"))
ACME_TOO = bearer(token(scope="tasks:read tasks:write", owner="acme", sub="acme-2"))
OTHER = bearer(token(scope="tasks:read tasks:write", owner="other"))
EVERYBODY = bearer(token(scope="tasks:read tasks:write"))
CALLERS = {"acme": ACME, "other": OTHER, "": EVERYBODY}


class Clock:
    """A wall clock that can be put forward."""

    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        """Return the time in ms."""
        return self.ms


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the application: tokens are good for years by it."""
    return Clock()


@pytest.fixture
async def app(settings: Settings, broker: Broker, clock: Clock) -> Application:
    """Return an application that asks who calls and reports often."""
    return create_app(
        guarded(settings), broker=open_broker(settings), now_ms=clock, report_seconds=0.02
    )


@pytest.fixture
async def http(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that shows nothing by itself."""
    async with serve(app) as client:
        yield client


async def submit(http: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    """Submit a task and return it."""
    body = {"type": "echo", "payload": {"secret": "x" * 100}}
    response = await http.post("/api/v1/tasks", json=body, headers=headers)
    assert response.status_code == 201
    task: dict[str, Any] = response.json()
    return task


async def test_owner_of_a_submission(http: httpx.AsyncClient) -> None:
    """What a caller with an owner submits is that owner's; the answers say so."""
    mine, free = await submit(http, ACME), await submit(http, EVERYBODY)
    assert mine["owner"] == "acme"
    assert "owner" not in free
    url = f"/api/v1/tasks/{mine['id']}"
    for headers in (ACME, ACME_TOO, EVERYBODY):
        assert (await http.get(url, headers=headers)).json()["owner"] == "acme"
    cancelled = await http.delete(url, headers=ACME_TOO)
    assert (cancelled.status_code, cancelled.json()["owner"]) == (200, "acme")


async def test_owner_cannot_be_chosen(http: httpx.AsyncClient) -> None:
    """It comes with the key: a body that names one is refused."""
    body = {"type": "echo", "owner": "acme"}
    response = await http.post("/api/v1/tasks", json=body, headers=OTHER)
    assert (response.status_code, response.json()["field"]) == (400, "owner")


def _of_tasks() -> list[tuple[str, str]]:
    return [
        (path, method)
        for path, method, operation in operations()
        if "{task_id}" in path and operation["x-required-scope"] != "admin"
    ]


@pytest.mark.parametrize(("path", "method"), _of_tasks())
@pytest.mark.parametrize("owner", ["acme", ""])
async def test_foreign_is_missing(
    http: httpx.AsyncClient, broker: Broker, worker: FakeWorker, path: str, method: str, owner: str
) -> None:
    """To each operation a foreign id is a missing one: the same status, body and headers."""
    task = await submit(http, CALLERS[owner])
    answers = []
    for task_id in (task["id"], broker.new_task_id()):
        headers = {**OTHER, "X-Request-ID": "same"}
        answer = await http.request(method, path.format(task_id=task_id), headers=headers)
        assert answer.status_code == 404
        answers.append((answer.text.replace(task_id, "ID"), answer.headers.multi_items()))
    assert answers[0] == answers[1]
    after = await http.get(f"/api/v1/tasks/{task['id']}", headers=EVERYBODY)
    assert after.json() == task


async def test_foreign_work_is_not_stopped(http: httpx.AsyncClient, worker: FakeWorker) -> None:
    """A running task of another owner is missing, too; its own may be stopped."""
    task = await submit(http, ACME)
    await worker.take()
    path = f"/api/v1/tasks/{task['id']}?running=true"
    assert (await http.delete(path, headers=OTHER)).status_code == 404
    before = await http.get(path.partition("?")[0], headers=ACME)
    assert "cancel_requested" not in before.json()
    assert (await http.delete(path, headers=ACME_TOO)).status_code == 202


@pytest.mark.parametrize("path", ["/admin/queues", "/admin/dlq", "/admin/workers", "/metrics"])
async def test_owners_administer_nothing(http: httpx.AsyncClient, path: str) -> None:
    """Where tasks of all owners show, an owner has no business, not even as an admin."""
    for scopes in ("tasks:read tasks:write", "admin", "admin metrics"):
        headers = bearer(token(scope=scopes, owner="acme"))
        assert (await http.get(path, headers=headers)).status_code == 403


async def seen(socket: ClientConnection, last: str) -> list[tuple[str, str]]:
    """Return (type, task id) of all frames up to the end of the task ``last``."""
    found = []
    while found[-1:] != [("task.completed", last)]:
        frame = json.loads(await socket.recv())
        assert "owner" not in frame["data"]
        found.append((frame["type"], frame["data"].get("task_id", "")))
    return found


async def test_events_of_others_do_not_arrive(
    address: str, worker: FakeWorker, broker: Broker
) -> None:
    """An owner follows its own tasks alone: no others', no workers, no totals."""
    base = f"http://{address}"
    async with (
        httpx.AsyncClient(base_url=base) as http,
        connect(f"ws://{address}/ws", additional_headers=ACME) as acme,
        connect(f"ws://{address}/ws", additional_headers=OTHER) as other,
        connect(f"ws://{address}/ws", additional_headers=EVERYBODY) as everybody,
    ):
        ids = [
            (await submit(http, CALLERS[owner]))["id"] for owner in ("acme", "other", "", "acme")
        ]
        cancelled = (await submit(http, OTHER))["id"]
        await http.delete(f"/api/v1/tasks/{cancelled}", headers=EVERYBODY)
        await FakeWorker(broker, "worker-2").register()
        for _ in ids:
            await worker.complete(await worker.take())
        mine = await seen(acme, ids[3])
        theirs = await seen(other, ids[1])
        everything = await seen(everybody, ids[3])
    assert {kind for kind, _ in mine} == {"task.submitted", "task.started", "task.completed"}
    assert {task for _, task in mine} == {ids[0], ids[3]}
    assert (len(mine), {task for _, task in theirs}) == (6, {ids[1], cancelled})
    assert {*ids, cancelled} <= {task for _, task in everything}
    assert "worker.joined" in {kind for kind, _ in everything}


async def test_subscribing_does_not_widen(address: str) -> None:
    """Naming types of events does not bring others' to an owner."""
    async with (
        httpx.AsyncClient(base_url=f"http://{address}") as http,
        connect(f"ws://{address}/ws", additional_headers=ACME) as socket,
    ):
        events = ["task.submitted", "queue.depth", "system.metrics", "worker.joined"]
        await socket.send(json.dumps({"action": "subscribe", "events": events}))
        await submit(http, OTHER)
        mine = await submit(http, ACME)
        assert json.loads(await socket.recv())["type"] == "subscription.updated"
        assert json.loads(await socket.recv())["data"]["task_id"] == mine["id"]


async def test_past_events_of_others_are_not_answered(http: httpx.AsyncClient) -> None:
    """Reading events afterwards shows an owner no more than following them."""
    ids = [(await submit(http, CALLERS[owner]))["id"] for owner in ("acme", "other", "", "acme")]

    async def read(headers: dict[str, str], query: str = "") -> list[str]:
        found = (await http.get(f"/api/v1/events?limit=100{query}", headers=headers)).json()
        return [event["data"]["task_id"] for event in found["items"]]

    assert await read(ACME) == [ids[0], ids[3]]
    assert await read(OTHER) == [ids[1]]
    assert await read(EVERYBODY) == ids
    assert await read(OTHER, f"&task_id={ids[0]}") == []
    assert await read(OTHER, "&events=task.submitted") == [ids[1]]


async def test_batches_have_the_owner(http: httpx.AsyncClient) -> None:
    """Many tasks at once are the caller's as one is."""
    body = {"tasks": [{"type": "echo"}, {"type": "echo", "queue": "mail"}]}
    response = await http.post("/api/v1/tasks/batch", json=body, headers=ACME)
    assert [item["task"]["owner"] for item in response.json()["items"]] == ["acme", "acme"]


async def ended_with(socket: ClientConnection) -> int | None:
    """Read to the end; the code that the server gives."""
    try:
        async with asyncio.timeout(10):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


async def test_connection_ends_with_its_token(address: str, clock: Clock) -> None:
    """A token that expires does not go on getting events over a connection made before."""
    headers = bearer(token(scope="tasks:read", exp=5))
    async with connect(f"ws://{address}/ws", additional_headers=headers) as socket:
        await socket.recv()
        clock.ms += RECHECK_MS
        assert await ended_with(socket) == 1008


async def test_connection_ends_with_its_key(
    address: str, clock: Clock, broker: Broker, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a key that was revoked; one that was not goes on."""
    text, _ = await broker.api_keys.create(["tasks:read"])
    other, _ = await broker.api_keys.create(["tasks:read"])
    monkeypatch.setattr("taskqueue_server.keyring.MAX_AGE_SECONDS", 0.0)
    async with (
        connect(f"ws://{address}/ws?token={text}") as socket,
        connect(f"ws://{address}/ws?token={other}") as second,
    ):
        await socket.recv()
        await broker.api_keys.revoke(str(key_id(text)))
        clock.ms += RECHECK_MS
        assert await ended_with(socket) == 1008
        for _ in range(3):
            await second.recv()
    assert RECHECK_MS / 1000 + MAX_AGE_SECONDS <= 15
