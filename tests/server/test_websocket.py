"""Events over a real WebSocket: who gets what, and how a connection begins and ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from answers import AnswerChecker
from fleet import FakeWorker
from sockets import PERIODIC, read_to_the_end, receive, say, submit
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskqueue_core.broker import Broker
from taskqueue_server.app import Application

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client over real sockets."""
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        yield client


async def test_a_task_makes_three_events(
    address: str, http: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """One frame for each of submitted, started and completed, numbered without holes."""
    async with connect(f"ws://{address}/ws") as socket:
        task_id = await submit(http, priority=2)
        await worker.complete(await worker.take())
        frames = [await receive(socket) for _ in range(3)]
    assert [frame["type"] for frame in frames] == [
        "task.submitted",
        "task.started",
        "task.completed",
    ]
    assert {frame["data"]["task_id"] for frame in frames} == {task_id}
    assert frames[2]["data"] == {
        "task_id": task_id,
        "type": "echo",
        "priority": "high",
        "state": "completed",
        "attempts": 1,
        "worker_id": worker.id,
        "duration_ms": 12,
    }
    numbers = [int(frame["id"].rpartition("-")[2]) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


async def test_every_kind_of_event_fits_its_schema(
    address: str, http: httpx.AsyncClient, worker: FakeWorker, broker: Broker
) -> None:
    """What the transitions emit is what the contract says."""
    async with connect(f"ws://{address}/ws") as socket:
        await submit(http)
        await worker.fail(await worker.take(), max_retries=1)
        await submit(http)
        await worker.fail(await worker.take())
        await http.request("DELETE", f"/api/v1/tasks/{await submit(http)}")
        await http.post("/admin/dlq/retry", json={"retry_all": True})
        await http.post(f"/admin/workers/{worker.id}/pause")
        await http.post(f"/admin/workers/{worker.id}/resume")
        await FakeWorker(broker, "worker-2").register()
        await broker.session("worker-2", "instance").deregister()
        seen: list[str] = []
        while "worker.left" not in seen:
            seen.append((await receive(socket))["type"])
    expected = "submitted started retrying submitted started failed dead_letter submitted cancelled"
    task_events = [f"task.{name}" for name in [*expected.split(), "queued"]]
    worker_events = [f"worker.{name}" for name in ("paused", "resumed", "joined", "left")]
    assert seen == task_events + worker_events


async def test_subscriptions(address: str, http: httpx.AsyncClient) -> None:
    """Subscribing narrows the stream, each answer says what is selected now."""
    async with connect(f"ws://{address}/ws") as socket:
        answer = await say(socket, "subscribe", "task.cancelled")
        assert (answer["type"], answer["data"]) == (
            "subscription.updated",
            {"events": ["task.cancelled"]},
        )
        answer = await say(socket, "subscribe", "task.submitted", "task.started")
        assert len(answer["data"]["events"]) == 3
        await say(socket, "unsubscribe", "task.submitted", "task.failed")
        await http.request("DELETE", f"/api/v1/tasks/{await submit(http)}")
        assert (await receive(socket))["type"] == "task.cancelled"


async def test_unsubscribing_from_everything_else(address: str, http: httpx.AsyncClient) -> None:
    """Without a subscription, unsubscribing leaves all the others."""
    async with connect(f"ws://{address}/ws") as socket:
        answer = await say(socket, "unsubscribe", "task.submitted")
        assert "task.cancelled" in answer["data"]["events"]
        assert "task.submitted" not in answer["data"]["events"]
        await http.request("DELETE", f"/api/v1/tasks/{await submit(http)}")
        assert (await receive(socket))["type"] == "task.cancelled"


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        "[" * 2_000,
        b"\x00",
        '{"action":"subscribe"}',
        '{"action":"subscribe","events":[]}',
        '{"action":"subscribe","events":["task.*"]}',
        '{"action":"subscribe","events":[1]}',
        '{"action":"publish","events":["task.started"]}',
        '{"action":"subscribe","events":["task.started"],"more":1}',
    ],
)
async def test_bad_frames_are_refused(
    address: str, http: httpx.AsyncClient, frame: str | bytes
) -> None:
    """The client is told why, nothing changes, and the connection lives on."""
    async with connect(f"ws://{address}/ws") as socket:
        await socket.send(frame)
        refused = await receive(socket)
        assert (refused["type"], bool(refused["data"]["message"])) == ("frame.refused", True)
        await submit(http)
        assert (await receive(socket))["type"] == "task.submitted"


async def test_large_frames_end_the_connection(address: str) -> None:
    """A frame that no client needs is not read to its end."""
    async with connect(f"ws://{address}/ws") as socket:
        await socket.send("x" * 100_000)
        assert await read_to_the_end(socket) == 1009


async def test_periodic_reports(address: str, http: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Depths and totals come by themselves while somebody listens."""
    await submit(http, priority=3)
    await worker.take()
    await submit(http, priority=0)
    found: dict[str, Any] = {}
    async with connect(f"ws://{address}/ws") as socket:
        while set(found) != PERIODIC:
            frame = json.loads(await socket.recv())
            AnswerChecker().validate("Event", frame)
            found[frame["type"]] = frame["data"]
    assert found["queue.depth"] == {"depths": {"critical": 0, "high": 0, "normal": 0, "low": 1}}
    assert found["system.metrics"]["submitted_total"] == 2
    assert found["system.metrics"]["backlog"] == 2
    assert found["system.metrics"]["active_workers"] == 1


async def test_connections_are_counted(address: str, http: httpx.AsyncClient) -> None:
    """Metrics know the open connections and the frames that were sent."""
    async with connect(f"ws://{address}/ws") as socket:
        await submit(http)
        await receive(socket)
        text = (await http.get("/metrics")).text
    assert "taskqueue_websocket_connections 1.0" in text
    assert 'taskqueue_websocket_messages_total{type="task.submitted"} 1.0' in text


async def test_shutdown_says_goodbye(address: str, app: Application) -> None:
    """Clients are told that the server goes away, so that they come again."""
    async with connect(f"ws://{address}/ws") as socket:
        await app.hub.close()
        assert await read_to_the_end(socket) == 1001


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/other", {}, 404),
        ("/ws", {"Origin": "https://elsewhere.example"}, 403),
        ("/ws", {"Origin": "null"}, 403),
    ],
)
async def test_refused_handshakes(
    address: str, path: str, headers: dict[str, str], status: int
) -> None:
    """The reason is an answer that a person can read."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{address}{path}", additional_headers=headers).__aenter__()
    response = refused.value.response
    assert response.status_code == status
    AnswerChecker().validate("Problem", json.loads(response.body))


async def test_own_pages_may_connect(address: str) -> None:
    """A page that this server sent has its origin."""
    async with connect(f"ws://{address}/ws", additional_headers={"Origin": f"http://{address}"}):
        pass


async def test_plain_request(http: httpx.AsyncClient) -> None:
    """Without an upgrade the path says what it speaks."""
    response = await http.get("/ws")
    assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("a" * 20_000, {}, 414),
        ("", {f"X-{n}": "1" for n in range(200)}, 431),
        ("", {"X-A": "1" * 20_000}, 431),
        ("", {"X-A": "1" * 10_000}, 400),
    ],
)
async def test_floods_are_refused(
    address: str, query: str, headers: dict[str, str], status: int
) -> None:
    """A handshake beyond what is read, here or by the library, is answered and not left open."""
    async with asyncio.timeout(5):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{address}/ws?{query}", additional_headers=headers)
    assert refused.value.response.status_code == status
