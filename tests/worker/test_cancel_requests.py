"""Requests to stop: what a worker does with them, and what becomes of the task."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import taskqueue_basic
from crew import Crew, at_work, delivery, ended, eventually, reached, submit
from script import with_worker
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.keys import partition_of
from taskqueue_core.logs import Throttle
from taskqueue_core.models import OutcomeKind, Task
from taskqueue_core.plugin import TaskContext, handler, hookimpl
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_core.worker.desk import Desk

pytestmark = pytest.mark.anyio

COMPLETE, FAIL = OutcomeKind.COMPLETE, OutcomeKind.FAIL
ASKED = b"cancelled on request"


@handler("slow", timeout=60)
async def slow(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Wait to be cancelled."""
    await asyncio.Event().wait()


@handler("thread", timeout=60)
def in_thread(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Work until it is told to stop."""
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.005)


@handler("thorough")
async def thorough(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Take a request to stop as one to come to an end."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return ctx.cancel_reason or "done"


@handler("deaf")
async def deaf(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Swallow the first two cancellations: the request, and the one at the deadline."""
    for _ in range(2):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    return "done anyway"


@handler("clumsy", timeout=60)
async def clumsy(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Fail at being cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("cannot tidy up")


def asked(crew: Crew, number: int = 1) -> bool:
    """Ask a delivery to stop."""
    return crew.executor.cancel(f"{number:032x}", 1)


async def begun(crew: Crew, task_type: str, **fields: Any) -> None:
    """Start a delivery, and let its handler begin."""
    crew.executor.start(delivery(task_type, **fields))
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("task_type", "kind", "value"),
    [
        ("slow", FAIL, ASKED),
        ("thread", FAIL, ASKED),
        ("clumsy", FAIL, b"ValueError: cannot tidy up"),
        ("thorough", COMPLETE, b'"cancelled on request"'),
    ],
)
async def test_what_a_handler_makes_of_it(
    settings: Settings, task_type: str, kind: OutcomeKind, value: bytes
) -> None:
    """A coroutine is cancelled, a thread asked; what is returned all the same is a result."""
    crew = Crew(settings, slow, in_thread, thorough, clumsy)
    await begun(crew, task_type)
    assert asked(crew)
    assert not asked(crew)
    await eventually(lambda: crew.outcomes, "the outcome")
    assert [(one.kind, one.value) for one in crew.outcomes] == [(kind, value)]
    assert not asked(crew)
    assert await crew.executor.stopped(1) == 0
    crew.executor.close()


async def test_who_has_not_begun_never_does(settings: Settings) -> None:
    """A request may come before the first step."""
    crew = Crew(settings, slow)
    crew.executor.start(delivery("slow"))
    assert asked(crew)
    await eventually(lambda: crew.outcomes, "the outcome")
    assert crew.outcomes[0].value == ASKED


async def test_another_delivery_is_not_meant(settings: Settings) -> None:
    """A message about an earlier delivery of a task, or of another worker's, changes nothing."""
    crew = Crew(settings, slow)
    await begun(crew, "slow", number=1)
    assert not crew.executor.cancel(f"{1:032x}", 2)
    assert not crew.executor.cancel(f"{2:032x}", 1)
    assert crew.executor.active() == 1
    crew.executor.release_all()
    assert await crew.executor.stopped(1) == 0


async def test_who_does_not_listen_is_stopped_at_its_timeout(settings: Settings) -> None:
    """Its result comes too late then, as anybody's."""
    crew = Crew(settings, deaf)
    await begun(crew, "deaf", timeout_seconds=1)
    assert asked(crew)
    await eventually(lambda: crew.outcomes, "the outcome")
    assert (crew.outcomes[0].kind, crew.outcomes[0].duration_ms >= 1000) == (FAIL, True)


async def test_a_thread_that_does_not_listen_is_given_up_at_its_timeout(
    settings: Settings,
) -> None:
    """Its slot gets another thread, as with every thread that hangs."""
    go = threading.Event()

    @handler("hung")
    def hung(ctx: TaskContext, payload: dict[str, Any]) -> None:
        go.wait(10)

    crew = Crew(settings, hung)
    await begun(crew, "hung", timeout_seconds=1)
    assert asked(crew)
    await eventually(lambda: crew.outcomes, "the outcome")
    assert (crew.outcomes[0].value, crew.executor.stuck) == (b"timed out after 1 s", 1)
    go.set()
    await eventually(lambda: crew.executor.stuck == 0, "the end of the thread")
    crew.executor.close()


async def test_a_lost_lease_after_it_still_counts(settings: Settings) -> None:
    """What it returns then is nobody's result."""
    crew = Crew(settings, thorough)
    one = delivery("thorough", timeout_seconds=60)
    await begun(crew, "thorough", timeout_seconds=60)
    assert asked(crew)
    assert crew.executor.lost(one)
    await eventually(lambda: crew.outcomes, "the outcome")
    assert (crew.outcomes[0].kind, crew.outcomes[0].value) == (FAIL, ASKED)


async def test_it_counts_as_no_retry(settings: Settings) -> None:
    """Nobody waits for a retry that will not come; hooks hear what stopped the attempt."""
    errors: list[BaseException] = []

    class Listener:
        @hookimpl
        def taskqueue_task_failed(self, error: BaseException) -> None:
            errors.append(error)

    crew = Crew(settings, in_thread, Listener())
    await begun(crew, "thread", max_retries=5)
    assert asked(crew)
    await eventually(lambda: crew.outcomes, "the outcome")
    assert "retry_delay_ms:thread" not in crew.measurements.take()
    assert [str(error) for error in errors] == [ASKED.decode()]
    crew.executor.close()


async def cancelled(broker: Broker, task_id: str) -> tuple[Task, float]:
    """Ask for the end of a running task; return the task at its end, and how long that took."""
    await reached(broker, task_id, TaskState.RUNNING)
    asked_at = time.monotonic()
    assert not await broker.cancel(task_id, running=True)
    return await ended(broker, task_id), time.monotonic() - asked_at


@pytest.mark.parametrize("task_type", ["slow", "thread", "clumsy"])
async def test_a_whole_worker(broker: Broker, settings: Settings, task_type: str) -> None:
    """The handler hears of it within a second; the task is cancelled, and not tried again."""
    async with at_work(settings, slow, in_thread, clumsy) as worker:
        task_id = await submit(broker, task_type, max_retries=5)
        task, seconds = await cancelled(broker, task_id)
        assert (task.state, task.attempts) == (TaskState.CANCELLED, 1)
        assert seconds < 1
        assert worker._executor.active() == 0


@pytest.mark.parametrize(
    ("task_type", "payload"),
    [("sleep", {"duration_seconds": 3600}), ("compute", {"iterations": 1_000_000_000})],
)
async def test_the_basic_plugin(
    broker: Broker, settings: Settings, task_type: str, payload: dict[str, Any]
) -> None:
    """Its long tasks stop when they are asked to."""
    async with at_work(settings, taskqueue_basic):
        task, seconds = await cancelled(broker, await submit(broker, task_type, payload=payload))
    assert (task.state, task.error) == (TaskState.CANCELLED, ASKED.decode())
    assert seconds < 1


def desk_of(crew: Crew) -> Desk:
    """Return a desk that hands deliveries to an executor, and reports nothing."""
    unused: Any = None
    desk = Desk("w1", Throttle(3, time.monotonic), crew.executor, unused)
    fetcher: Any = SimpleNamespace(is_open=True)
    desk.fetcher = fetcher
    return desk


async def test_a_message_may_overtake_its_delivery(settings: Settings) -> None:
    """Both come over connections of their own: it is remembered, as one of a hundred."""
    crew = Crew(settings, slow)
    desk = desk_of(crew)
    for number in range(1, 103):
        desk.heard(f"cancel {number:032x} 1")
    desk.start(delivery("slow", 2))
    desk.start(delivery("slow", 3))
    desk.start(delivery("slow", 102))
    await eventually(lambda: len(crew.outcomes) == 2, "both outcomes")
    assert {one.delivery.digits for one in crew.outcomes} == {f"{n:032x}" for n in (3, 102)}
    crew.executor.release_all()
    assert await crew.executor.stopped(1) == 0


@pytest.mark.parametrize(
    "message", ["", "cancel", f"cancel {1:032x}", f"cancel {1:032x} one", f"cancel {1:032x} 1 2"]
)
async def test_a_message_that_is_none(settings: Settings, message: str) -> None:
    """What a later version may say is passed over."""
    crew = Crew(settings, slow)
    desk = desk_of(crew)
    desk.heard(message)
    desk.start(delivery("slow"))
    desk.heard(message)
    assert not crew.executor.running[f"{1:032x}", 1].context.cancelled
    crew.executor.release_all()
    assert await crew.executor.stopped(1) == 0


async def test_in_every_partition(settings: Settings) -> None:
    """Each partition has messages of its own, and the worker listens to all of them."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    settings = with_worker(settings.model_copy(update={"queue": queue}), concurrency=30)
    broker = open_broker(settings)
    await broker.prepare()
    async with at_work(settings, slow):
        ids = [await submit(broker, "slow") for _ in range(30)]
        assert {partition_of(task_id) for task_id in ids} == {0, 1, 2}
        for task_id in ids:
            task, seconds = await cancelled(broker, task_id)
            assert (task.state, seconds < 1) == (TaskState.CANCELLED, True)
    assert await broker.inspection.audit() == []
    await broker.close()


async def test_a_lost_message_costs_one_heartbeat(broker: Broker, settings: Settings) -> None:
    """What the worker did not hear at once it learns when it next renews its lease."""
    settings = with_worker(settings, heartbeat_interval_seconds=0.2, lease_seconds=1)
    with capture_logs() as lines:
        async with at_work(settings, slow) as worker:
            worker._sections[0].control._on_message = lambda _: None
            task, seconds = await cancelled(broker, await submit(broker, "slow"))
            assert (task.state, seconds < 2) == (TaskState.CANCELLED, True)
    assert [line["event"] for line in lines].count("task asked to stop") == 1


async def test_a_worker_that_is_stopping_still_listens(broker: Broker, settings: Settings) -> None:
    """What holds up the end of a worker can be stopped at once, so that it need not wait."""
    settings = with_worker(settings, heartbeat_interval_seconds=4, shutdown_timeout_seconds=30)
    async with at_work(settings, slow) as worker:
        task_id = await submit(broker, "slow")
        await reached(broker, task_id, TaskState.RUNNING)
        worker.stop()
        await shown(broker, "shutting_down")
        task, seconds = await cancelled(broker, task_id)
        assert (task.state, seconds < 1) == (TaskState.CANCELLED, True)


async def shown(broker: Broker, state: str) -> None:
    """Wait until the only worker is shown in a state."""
    with anyio.fail_after(5):
        while [one.state for one in await broker.inspection.workers()] != [state]:
            await anyio.lowlevel.checkpoint()


async def test_a_worker_that_stops_meanwhile(broker: Broker, settings: Settings) -> None:
    """A task that it gives back does not wait for another worker: it is cancelled."""
    let_go = asyncio.Event()

    @handler("stubborn", timeout=60)
    async def stubborn(ctx: TaskContext, payload: dict[str, Any]) -> None:
        while not ctx.cancel_reason or not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    settings = with_worker(settings, shutdown_timeout_seconds=0.1)
    async with at_work(settings, stubborn) as worker:
        task_id = await submit(broker, "stubborn")
        await reached(broker, task_id, TaskState.RUNNING)
        assert not await broker.cancel(task_id, running=True)
        worker.stop()
        assert (await ended(broker, task_id)).state is TaskState.CANCELLED
        let_go.set()
