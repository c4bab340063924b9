"""A worker or a server behind a proxy that loses replies, stalls, or cuts it off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from staff import at_work, ended, reached, submit, until

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import NewTask, Outcome, OutcomeKind, OutcomeStatus
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_core.verification.proxy import Mode, Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def distant(proxied: Settings, fragile_broker: Broker) -> AsyncIterator[Broker]:
    """Yield a client behind the proxy."""
    broker = open_broker(proxied)
    await broker.ping()
    yield broker
    await broker.close()


class Noted:
    """A handler ``nap`` that notes each start, and who ran it."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, str]] = []

    def by(self, name: str) -> object:
        """Return the handler for one worker."""

        @handler("nap", timeout=60)
        async def nap(ctx: TaskContext, payload: dict[str, Any]) -> str:
            self.starts.append((name, ctx.fence))
            await asyncio.sleep(payload.get("seconds", 0))
            return ctx.fence

        return nap


async def lose_first_reply(proxy: Proxy, call: Any) -> Any:
    """Make a call whose first reply is lost and that is repeated over a new connection."""
    proxy.switch(Mode.DEAF)
    calling = asyncio.create_task(call)
    await asyncio.sleep(0.3)
    proxy.switch(Mode.OPEN)
    return await calling


async def test_submit(proxy: Proxy, distant: Broker, fragile_broker: Broker) -> None:
    """A submission whose answer was lost is repeated, and is one task."""
    task = NewTask(id=distant.new_task_id(), type="nap")
    answer = await lose_first_reply(proxy, distant.submit(task))
    assert answer.id == task.id
    assert (await fragile_broker.inspection.queue_stats()).backlog == 1


async def test_fetch_and_complete(proxy: Proxy, distant: Broker, fragile_broker: Broker) -> None:
    """The same tasks come again at once, and a repeated outcome is answered as taken."""
    session = distant.session("w1", "i1")
    await session.register(concurrency=2, version="1", handlers={})
    await session.heartbeat(request=0, active=0)
    streams = [fragile_broker.partitions[0].stream("default", 1)]
    # Redis knows the scripts: what is lost below is no request to load them.
    await session.fetch(1, streams=streams, request=1)
    await session.complete([])
    task_id = await submit(fragile_broker, "nap")
    fetch = session.fetch(1, streams=streams, request=2)
    [delivery] = (await lose_first_reply(proxy, fetch)).deliveries
    assert delivery.number == 1
    outcome = Outcome(delivery=delivery, kind=OutcomeKind.COMPLETE, value=b"1")
    statuses = await lose_first_reply(proxy, session.complete([outcome]))
    assert statuses == [OutcomeStatus.ALREADY]
    task = await fragile_broker.inspection.get(task_id)
    assert (task.state, task.deliveries) == (TaskState.COMPLETED, 1)


async def test_lost_fetch_reply_of_a_worker(
    proxy: Proxy, proxied: Settings, fragile_broker: Broker
) -> None:
    """A task handed out in a reply that was lost is run once, with its first delivery."""
    notes = Noted()
    async with at_work(proxied, notes.by("w1")) as worker:
        # From now on it knows the queue.
        await ended(fragile_broker, await submit(fragile_broker, "nap"))
        proxy.switch(Mode.DEAF)
        task_id = await submit(fragile_broker, "nap")
        # Its bell is among the replies that are lost.
        worker._sections[0].fetcher.wake()
        await reached(fragile_broker, task_id, TaskState.RUNNING)
        assert len(notes.starts) == 1
        proxy.switch(Mode.OPEN)
        task = await ended(fragile_broker, task_id, within_seconds=5)
    assert (task.state, task.lost_leases) == (TaskState.COMPLETED, 0)
    assert len(notes.starts) == 2


@pytest.mark.parametrize("mode", [Mode.STALL, Mode.CUT])
async def test_worker_cut_off_for_longer_than_a_lease(
    proxy: Proxy, proxied: Settings, fragile: Settings, fragile_broker: Broker, mode: Mode
) -> None:
    """Another one runs its task; what it says when it is back changes nothing; it works on."""
    notes = Noted()
    async with at_work(proxied, notes.by("far"), name="far"):
        task_id = await submit(fragile_broker, "nap", {"seconds": 1.5})
        await reached(fragile_broker, task_id, TaskState.RUNNING)
        async with at_work(fragile, notes.by("near"), name="near"):
            proxy.switch(mode)
            task = await ended(fragile_broker, task_id)
            proxy.switch(Mode.OPEN)

            async def is_refused() -> bool:
                stats = await fragile_broker.inspection.stats()
                return bool(stats.get("stale"))

            await until(is_refused, "the refusal of the late outcome")
        assert notes.starts == [("far", "1"), ("near", "2")]
        assert (task.lost_leases, task.result) == (1, b'"2"')
        assert await fragile_broker.inspection.get(task_id) == task
        again = await ended(fragile_broker, await submit(fragile_broker, "nap"))
        assert again.worker_id == "far"


async def test_slow_connection(proxy: Proxy, proxied: Settings, fragile_broker: Broker) -> None:
    """Nothing is lost or done again when every answer takes its time."""
    notes = Noted()
    proxy.switch(Mode.SLOW, delay_seconds=0.05)
    async with at_work(proxied, notes.by("w1")):
        ids = [await submit(fragile_broker, "nap") for _ in range(20)]
        tasks = [await ended(fragile_broker, task_id) for task_id in ids]
    assert {(task.state, task.deliveries) for task in tasks} == {(TaskState.COMPLETED, 1)}
