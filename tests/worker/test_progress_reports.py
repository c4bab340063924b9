"""What handlers say about their progress: told at once, then the latest now and then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from crew import Crew, at_work, delivery, ended, joined, submit, take

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.broker.sessions import Report
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.events import Event
from taskqueue_core.models import Delivery
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.worker import progress
from taskqueue_core.worker.progress import Progress

pytestmark = pytest.mark.anyio


async def told(broker: Broker) -> list[Event]:
    """Return the reports that listeners got."""
    page = await broker.history.read(None, 1_000)
    return [event for event, _ in page.events if event.type == "task.progress"]


async def settled(broker: Broker, count: int) -> list[dict[str, Any]]:
    """Return what was told, once there is so much of it."""
    end = time.monotonic() + 5
    while len(events := await told(broker)) < count:
        assert time.monotonic() < end, "not told within 5 s"
        await asyncio.sleep(0.01)
    return [event.data for event in events]


async def test_from_a_coroutine_and_from_a_thread(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either kind of handler may tell, with or without awaiting it."""
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.01)
    released = threading.Event()

    @handler("coroutine")
    async def coroutine(ctx: TaskContext, payload: dict[str, Any]) -> None:
        await ctx.progress(0.5, "half")
        await asyncio.to_thread(released.wait, 10)

    @handler("thread")
    def thread(ctx: TaskContext, payload: dict[str, Any]) -> None:
        ctx.progress(0.25)
        released.wait(10)

    async with at_work(settings, coroutine, thread):
        ids = {name: await submit(broker, name) for name in ("coroutine", "thread")}
        reports = {data["type"]: data for data in await settled(broker, 2)}
        released.set()
        for task_id in ids.values():
            await ended(broker, task_id)
    assert (reports["coroutine"]["fraction"], reports["coroutine"]["message"]) == (0.5, "half")
    assert reports["thread"]["fraction"] == 0.25
    assert {name: data["task_id"] for name, data in reports.items()} == ids


class Scene:
    """A task at work, and the way of its reports to a broker that may be away."""

    def __init__(self, settings: Settings, session: WorkerSession, one: Delivery) -> None:
        self.crew = Crew(settings, _waiting)
        self.progress = Progress(session, self.crew.executor, lambda call: call)
        self.crew.executor.start(one)
        (self.running,) = self.crew.executor.running.values()

    def note(self, fraction: float, message: str = "") -> None:
        """Say something as the handler of the task."""
        self.progress.note(self.running.context, fraction, message)


@handler("echo")
async def _waiting(ctx: TaskContext, payload: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def scene(settings: Settings, broker: Broker, session: WorkerSession) -> AsyncIterator[Scene]:
    await submit(broker)
    (one,) = await take(session, broker)
    scene = Scene(settings, session, one)
    yield scene
    scene.crew.executor.release_all()
    scene.crew.executor.close()


async def test_the_latest_is_told_of_many(scene: Scene, broker: Broker) -> None:
    """A handler may say as much as it likes: in between two calls only the last word counts."""
    for number in range(1_000):
        scene.note(number / 1_000, str(number))
    assert await scene.progress.run_once() == progress.INTERVAL_SECONDS
    assert [event.data["message"] for event in await told(broker)] == ["999"]


async def test_a_call_tells_of_a_hundred(
    settings: Settings, broker: Broker, session: WorkerSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tasks than that take turns."""
    sizes: list[int] = []

    async def record(reports: list[Report], *, request: int) -> list[bool]:
        sizes.append(len(reports))
        return []

    monkeypatch.setattr(session, "progress", record)
    crew = Crew(settings, _waiting)
    reporter = Progress(session, crew.executor, lambda call: call)
    for number in range(1, 131):
        crew.executor.start(delivery("echo", number))
    for running in crew.executor.running.values():
        reporter.note(running.context, 0.5, "")
    await reporter.run_once()
    await reporter.run_once()
    assert sizes == [100, 30]
    crew.executor.release_all()
    crew.executor.close()


async def test_nothing_is_told_of_what_has_ended(scene: Scene, broker: Broker) -> None:
    """The last words of a handler are its outcome."""
    scene.note(0.9)
    scene.running.is_over = True
    await scene.progress.run_once()
    assert await told(broker) == []
    scene.running.is_over = False


async def test_what_was_not_answered_is_told_once(
    scene: Scene, broker: Broker, session: WorkerSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose answer was lost is made again under its number."""
    call = WorkerSession.progress

    async def lose(reports: list[Report], *, request: int) -> list[bool]:
        await call(session, reports, request=request)
        raise BrokerUnavailableError("lost")

    monkeypatch.setattr(session, "progress", lose)
    scene.note(0.1, "first")
    with pytest.raises(BrokerUnavailableError):
        await scene.progress.run_once()
    monkeypatch.undo()
    scene.note(0.2, "second")
    await scene.progress.run_once()
    await scene.progress.run_once()
    assert [event.data["message"] for event in await told(broker)] == ["first", "second"]


async def test_it_waits_until_there_is_something(scene: Scene) -> None:
    """Without reports there are no calls."""
    running = asyncio.create_task(scene.progress.run_once())
    done, _ = await asyncio.wait([running], timeout=0.05)
    assert not done
    scene.note(0.5)
    await running


async def test_reports_of_a_worker_that_lost_the_task(broker: Broker, scene: Scene) -> None:
    """Nobody hears of a run that has been given to somebody else."""
    await broker.redis.hset(
        broker.partitions[0].task(scene.running.delivery.digits), "f", "2:other"
    )
    scene.note(0.5)
    await scene.progress.run_once()
    assert await told(broker) == []
    await broker.redis.hset(broker.partitions[0].task(scene.running.delivery.digits), "f", "1:i1")


async def test_registered_again(broker: Broker, session: WorkerSession) -> None:
    """After its registration ran out a worker tells on, under the numbers it has reached."""
    await submit(broker)
    (one,) = await take(session, broker)
    await session.progress([Report(one, 0.1)], request=5)
    await broker.redis.delete(broker.partitions[0].worker("w1"))
    await joined(broker, session)
    await session.progress([Report(one, 0.2)], request=6)
    assert [event.data["fraction"] for event in await told(broker)] == [0.1, 0.2]
