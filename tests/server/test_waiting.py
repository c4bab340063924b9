"""``GET /api/v1/tasks/{id}?wait=``: the answer comes with the end of the task, or in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import httpx
import pytest
from checked import serve
from fleet import FakeWorker

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.events import Event
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.hub import Hub
from taskqueue_server.messages import Message
from taskqueue_server.waiting import Waiters

pytestmark = pytest.mark.anyio


@pytest.fixture
async def task_id(broker: Broker) -> str:
    """Return a task that waits in its queue."""
    return (await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))).id


async def waiting(hub: Hub, count: int = 1) -> None:
    """Return once so many wait for tasks."""
    end = time.monotonic() + 5
    while len(hub._waiters) != count or (count and not hub._is_reading):
        assert time.monotonic() < end, f"{len(hub._waiters)} wait instead of {count}"
        await asyncio.sleep(0.005)


async def timed(answer: Awaitable[httpx.Response]) -> tuple[str, float]:
    """Return the state in an answer, and when it came."""
    response = await answer
    assert response.status_code == 200
    return response.json()["state"], time.monotonic()


@pytest.mark.parametrize("end", ["completed", "dead_letter", "cancelled"])
async def test_the_answer_comes_with_the_end(
    client: httpx.AsyncClient, app: Application, broker: Broker, worker: FakeWorker,
    task_id: str, end: str,
) -> None:  # fmt: skip
    """Long before the time is over, and long before the next look."""
    answer = asyncio.create_task(timed(client.get(f"/api/v1/tasks/{task_id}?wait=30")))
    await waiting(app.hub)
    if end == "cancelled":
        await broker.cancel(task_id)
    else:
        delivery = await worker.take()
        await (worker.complete if end == "completed" else worker.fail)(delivery)
    ended_at = time.monotonic()
    state, answered_at = await answer
    assert state == end
    assert answered_at - ended_at < 0.5  # 0.1 where the machine has nothing else to do
    await waiting(app.hub, 0)


async def test_events_on_the_way_to_the_end_are_no_end(
    client: httpx.AsyncClient, app: Application, worker: FakeWorker, task_id: str
) -> None:
    """A start, a failed attempt and the next one do not end the wait."""
    answer = asyncio.create_task(timed(client.get(f"/api/v1/tasks/{task_id}?wait=0.4")))
    await waiting(app.hub)
    started = time.monotonic()
    await worker.fail(await worker.take(), max_retries=1)
    state, answered_at = await answer
    assert (state, answered_at - started > 0.3) == ("retrying", True)


@pytest.mark.parametrize("query", ["", "?wait=0", "?wait=0.0"])
async def test_without_a_wait(client: httpx.AsyncClient, task_id: str, query: str) -> None:
    """The answer comes at once."""
    started = time.monotonic()
    state, answered_at = await timed(client.get(f"/api/v1/tasks/{task_id}{query}"))
    assert (state, answered_at - started < 1) == ("pending", True)


async def test_the_time_limit(client: httpx.AsyncClient, app: Application, task_id: str) -> None:
    """Then the task is shown as it is."""
    started = time.monotonic()
    state, answered_at = await timed(client.get(f"/api/v1/tasks/{task_id}?wait=0.25"))
    assert state == "pending"
    assert 0.25 <= answered_at - started < 1.25
    await waiting(app.hub, 0)


async def test_an_ended_task_is_not_waited_for(
    client: httpx.AsyncClient, broker: Broker, task_id: str
) -> None:
    """Nor is one that does not exist."""
    await broker.cancel(task_id)
    started = time.monotonic()
    assert (await timed(client.get(f"/api/v1/tasks/{task_id}?wait=60")))[0] == "cancelled"
    unknown = await client.get(f"/api/v1/tasks/{broker.new_task_id()}?wait=60")
    assert unknown.status_code == 404
    assert time.monotonic() - started < 2


async def test_a_lost_event_costs_no_more_than_a_look(
    client: httpx.AsyncClient, app: Application, broker: Broker, task_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The task is looked at now and then, whatever the events say."""
    monkeypatch.setattr("taskqueue_server.waiting.POLL_SECONDS", 0.2)
    monkeypatch.setattr(Waiters, "tell", lambda self, event: None)
    answer = asyncio.create_task(timed(client.get(f"/api/v1/tasks/{task_id}?wait=30")))
    await waiting(app.hub)
    await broker.cancel(task_id)
    ended_at = time.monotonic()
    state, answered_at = await answer
    assert (state, answered_at - ended_at < 1) == ("cancelled", True)


async def test_an_end_between_two_looks(
    client: httpx.AsyncClient, app: Application, broker: Broker, task_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A task that ends while it is looked at is not waited for until the next look."""
    get, calls = broker.inspection.get, 0

    async def cancel_meanwhile(self: object, task_id: str, **more: str) -> object:
        nonlocal calls
        task = await get(task_id, **more)
        calls += 1
        if calls == 2:
            await broker.cancel(task_id)
            end = time.monotonic() + 5
            while not next(iter(app.hub._waiters._waiting.values()))[0]._told.is_set():
                assert time.monotonic() < end
                await asyncio.sleep(0.005)
        return task

    monkeypatch.setattr(type(broker.inspection), "get", cancel_meanwhile)
    started = time.monotonic()
    state, answered_at = await timed(client.get(f"/api/v1/tasks/{task_id}?wait=30"))
    assert (state, answered_at - started < 1.5) == ("cancelled", True)


async def test_many_wait_for_one_task(
    client: httpx.AsyncClient, app: Application, broker: Broker, task_id: str
) -> None:
    """All of them are answered."""
    answers = [
        asyncio.create_task(timed(client.get(f"/api/v1/tasks/{task_id}?wait=30")))
        for _ in range(20)
    ]
    await waiting(app.hub, 20)
    await broker.cancel(task_id)
    assert {state for state, _ in await asyncio.gather(*answers)} == {"cancelled"}
    await waiting(app.hub, 0)


async def test_too_many_are_answered_at_once(settings: Settings, task_id: str) -> None:
    """Whoever finds no place to wait gets the task as it is."""
    app = create_app(settings, broker=open_broker(settings), max_waiters=1)
    async with serve(app) as client:
        first = asyncio.create_task(timed(client.get(f"/api/v1/tasks/{task_id}?wait=1")))
        await waiting(app.hub)
        state, _ = await timed(client.get(f"/api/v1/tasks/{task_id}?wait=60"))
        assert (state, first.done()) == ("pending", False)
        await first


async def test_who_goes_away_waits_no_longer(app: Application, task_id: str) -> None:
    """A client that hangs up leaves nothing behind."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": f"/api/v1/tasks/{task_id}",
        "query_string": b"wait=60", "headers": [], "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    async with serve(app):
        request = asyncio.create_task(app(scope, incoming.get, send))
        await waiting(app.hub)
        incoming.put_nowait({"type": "http.disconnect"})
        async with asyncio.timeout(5):
            await request
        assert (len(app.hub._waiters), sent) == (0, [])


async def test_a_server_that_stops_keeps_nobody(
    client: httpx.AsyncClient, app: Application, task_id: str
) -> None:
    """Who waits gets the task as it is, and can go on waiting somewhere else."""
    answer = asyncio.create_task(timed(client.get(f"/api/v1/tasks/{task_id}?wait=60")))
    await waiting(app.hub)
    stopping = time.monotonic()
    await app.hub.close()
    state, answered_at = await answer
    assert (state, answered_at - stopping < 2) == ("pending", True)


@pytest.mark.parametrize("value", ["-1", "60.1", "soon", "", "NaN", "1e", "1,5"])
async def test_nonsense_is_refused(client: httpx.AsyncClient, task_id: str, value: str) -> None:
    """The answer names the parameter."""
    response = await client.get(f"/api/v1/tasks/{task_id}?wait={value}")
    assert (response.status_code, response.json()["field"]) == (400, "wait")


def test_waiters_are_found_by_their_task() -> None:
    """An event wakes those of its task, if it is the end; a place that is left is free again."""
    waiters = Waiters(2)
    one, two = waiters.add("a"), waiters.add("b")
    assert one is not None
    assert two is not None
    assert (waiters.add("a"), len(waiters)) == (None, 2)
    for state in ("running", "retrying", "pending"):
        waiters.tell(Event(1, "task.x", 1, {"task_id": "a", "state": state}))
    waiters.tell(Event(1, "task.x", 1, {"task_id": "c", "state": "completed"}))
    waiters.tell(Event(1, "worker.left", 1, {"worker_id": "a", "state": "idle"}))
    assert not one._told.is_set()
    waiters.tell(Event(1, "task.x", 1, {"task_id": "a", "state": "failed"}))
    assert (one._told.is_set(), two._told.is_set()) == (True, False)
    waiters.remove("a", one)
    assert waiters.add("b") is not None
    assert len(waiters) == 2
