"""Clients that come back: nothing is missed, nothing comes twice, what is gone is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from answers import AnswerChecker
from fleet import FakeWorker
from sockets import PERIODIC, receive, receive_all, submit
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.hub import Hub
from taskqueue_server.listeners import Frame, Subscriber

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client over real sockets."""
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        yield client


async def place(http: httpx.AsyncClient, **query: Any) -> str:
    """Return the place behind a page of events."""
    cursor: str = (await http.get("/api/v1/events", params=query)).json()["next_cursor"]
    return cursor


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of events of the only partition."""
    return [int(frame["id"].rpartition("-")[2]) for frame in frames]


async def test_who_comes_back_misses_nothing(
    address: str, http: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """What happened meanwhile comes first, then what happens, under the same ids."""
    async with connect(f"ws://{address}/ws") as socket:
        await submit(http)
        last = (await receive(socket))["id"]
        async with connect(f"ws://{address}/ws?since={last}") as other:
            await worker.complete(await worker.take())
            for _ in range(250):
                await submit(http)
            everything = [await receive(socket) for _ in range(252)]
            assert [await receive(other) for _ in range(252)] == everything
        async with connect(f"ws://{address}/ws?since={last}") as late:
            assert [await receive(late) for _ in range(252)] == everything
            await submit(http)
            assert await receive(late) == await receive(socket)
    assert numbers(everything) == list(range(numbers(everything)[0], numbers(everything)[-1] + 1))


async def test_a_client_that_is_cut_off_again_and_again(
    address: str, http: httpx.AsyncClient, broker: Broker
) -> None:
    """However often it comes back, and while events come, it gets each of them once."""
    cursor = await place(http)

    async def produce() -> str:
        for _ in range(60):
            await broker.submit_many(
                [NewTask(id=broker.new_task_id(), type="echo") for _ in range(7)]
            )
        return await place(http, limit=1000, after=cursor)

    producing = asyncio.create_task(produce())
    found: list[dict[str, Any]] = []
    while len(found) < 420:
        last = found[-1]["id"] if found else cursor
        socket = await connect(f"ws://{address}/ws?since={last}")
        for _ in range(min(23, 420 - len(found))):
            found.append(await receive(socket))  # noqa: PERF401 -- a cut loses the rest
        socket.transport.abort()
    assert numbers(found) == list(range(1, 421))
    assert found[-1]["id"] == await producing


async def test_what_is_selected_of_the_past(
    address: str, http: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """Filters hold for what was missed and for what comes."""
    start = await place(http)
    tasks = [await submit(http) for _ in range(2)]
    await worker.complete(await worker.take())
    everything = ["submitted", "started", "completed"]
    expected = {
        f"task_id={tasks[1].upper()}": everything,
        "events=task.completed": ["completed", "completed"],
        f"task_id={tasks[1]}&events=task.started,task.completed": everything[1:],
    }
    sockets = [await connect(f"ws://{address}/ws?since={start}&{query}") for query in expected]
    await worker.complete(await worker.take())
    for socket, types in zip(sockets, expected.values(), strict=True):
        frames = [await receive(socket) for _ in types]
        assert [frame["type"] for frame in frames] == [f"task.{name}" for name in types]
        await socket.close()


async def test_what_was_deleted_is_a_gap(
    address: str, http: httpx.AsyncClient, broker: Broker
) -> None:
    """It says how many, at their place; whatever is selected, it is told."""
    start = await place(http)
    task = [await submit(http) for _ in range(10)][-1]
    await broker.redis.xtrim(broker.partitions[0].events, minid="8-0", approximate=False)
    for query in ("", f"&task_id={task}", "&events=task.submitted"):
        async with connect(f"ws://{address}/ws?since={start}{query}") as socket:
            gap = await receive(socket)
            assert gap["data"] == {"missed": 7, "reason": "trimmed"}
            assert "id" not in gap
            assert numbers([await receive(socket)]) == [10 if "task_id" in query else 8]


async def test_a_place_in_another_history(
    address: str, http: httpx.AsyncClient, broker: Broker
) -> None:
    """After the namespace was emptied, what was read is said not to hold, then all comes."""
    await submit(http)
    await submit(http)
    last = await place(http)
    await asyncio.sleep(0.002)  # another millisecond: the stream is told apart by its begin
    keys = [key async for key in broker.redis.scan_iter(broker.partitions[0].prefix + "*")]
    await broker.redis.unlink(*keys)
    await broker.prepare()
    for _ in range(5):
        await submit(http)
    async with connect(f"ws://{address}/ws?since={last}") as socket:
        assert (await receive(socket))["data"] == {"missed": 2, "reason": "restarted"}
        assert numbers([await receive(socket) for _ in range(5)]) == [1, 2, 3, 4, 5]
        await submit(http)
        assert numbers([await receive(socket)]) == [6]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=1", "since"),
        ("since=", "since"),
        ("since=0.0", "since"),
        ("since=abcdef-0", "since"),
        ("since=" + "0" * 7_200, "since"),
        ("events=", "events/0"),
        ("events=task.*", "events/0"),
        ("events=task.started,", "events/1"),
        ("task_id=1", "task_id"),
        ("task_id=", "task_id"),
        ("after=0", "after"),
        ("since=0&since=0", "since"),
        ("%zz=%ff", "query"),
    ],
)
async def test_nonsense_is_refused(
    address: str, caplog: pytest.LogCaptureFixture, query: str, field: str
) -> None:
    """The answer to the handshake names what is wrong; no log line says that we are at fault."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{address}/ws?{query}")
    answer = json.loads(refused.value.response.body or b"")
    AnswerChecker().validate("Problem", answer)
    assert (refused.value.response.status_code, answer["field"]) == (400, field)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_two_servers(settings: Settings, address: str, http: httpx.AsyncClient) -> None:
    """An id of one is a place for the other, and both report to their own clients."""
    here = Hub(broker := open_broker(settings), lambda: 0, report_seconds=0.05)
    listener = await here.join()
    await submit(http)
    async with connect(f"ws://{address}/ws") as socket:
        await submit(http)
        frames = await listened(listener, {"task.submitted", *PERIODIC})
        first = next(frame for frame in frames if frame["type"] == "task.submitted")
        second = await receive(socket)
        async with connect(f"ws://{address}/ws?since={first['id']}") as other:
            assert await receive_all(other, second["id"]) == [second]
        kinds: set[str] = set()
        while kinds != PERIODIC:
            kinds |= {json.loads(await socket.recv())["type"]} & PERIODIC
    await here.leave(listener)
    await here.close()
    await broker.close()


async def listened(listener: Subscriber, types: set[str]) -> list[dict[str, Any]]:
    """Return frames until there was one of each type."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while {frame["type"] for frame in found} != types:
            items = await listener.take()
            found += [json.loads(item.body) for item in items if isinstance(item, Frame)]
    return found
