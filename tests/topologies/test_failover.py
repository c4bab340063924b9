"""A server is killed, or a slot moves, while tasks are submitted and run."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from crowd import Crew, new_task, opened, settings_for
from topology import Clustered, Watched

from taskqueue_core.broker import Broker
from taskqueue_core.errors import BrokerError, BrokerUnavailableError, NotFoundError
from taskqueue_core.keys import id_to_hex, partition_of
from taskqueue_core.models import NewTask, OutcomeKind, Submitted

pytestmark = pytest.mark.anyio

#: Longest time without an accepted submission.
RESUMED_SECONDS = 10.0


class Load:
    """Submissions without end: what was answered, and the longest time without an answer."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.accepted: list[str] = []
        self.refused = 0
        self.longest_wait = 0.0
        self._last = time.monotonic()
        self._news = anyio.Event()

    async def run(self) -> None:
        """Submit, after a refusal another task: it may go to a partition that is well."""
        while True:
            while not await self._submit(new_task(self.broker)):
                self.refused += 1
                await anyio.sleep(0.02)
            now = time.monotonic()
            self.longest_wait = max(self.longest_wait, now - self._last)
            self._last = now
            self._news.set()
            self._news = anyio.Event()

    async def _submit(self, task: NewTask) -> bool:
        try:
            answer = (await self.broker.submit_many([task]))[0]
        except BrokerError:
            return False
        if isinstance(answer, Submitted):
            self.accepted.append(answer.id)
        return isinstance(answer, Submitted)

    async def grows(self, count: int = 100) -> None:
        """Return when so many more were accepted."""
        goal = len(self.accepted) + count
        await self.until(lambda: len(self.accepted) >= goal)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition holds, which only changes with an accepted submission."""
        with anyio.fail_after(2 * RESUMED_SECONDS):
            while not condition():
                await self._news.wait()


@asynccontextmanager
async def loaded(broker: Broker, submitters: int = 8) -> AsyncIterator[Load]:
    """Submit meanwhile."""
    load = Load(broker)
    async with anyio.create_task_group() as group:
        for _ in range(submitters):
            group.start_soon(load.run)
        yield load
        group.cancel_scope.cancel()


async def lost_of(broker: Broker, ids: list[str]) -> list[str]:
    """Return those of the tasks that are not there."""
    lost = []
    for task_id in ids:
        try:
            await broker.inspection.get(task_id)
        except NotFoundError:
            lost.append(task_id)
    return lost


def _made_at(task_id: str) -> float:
    """Return the time in an id, in seconds."""
    return int(id_to_hex(task_id)[:12], 16) / 1000


async def patiently(call: Callable[[], Awaitable[object]]) -> None:
    """Make a call until the broker takes it."""
    with anyio.fail_after(RESUMED_SECONDS):
        while True:
            try:
                await call()
            except BrokerError:
                await anyio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("durability", ["replica", "process"])
async def test_a_primary_under_sentinel_is_killed(
    watched: Watched, namespace: str, durability: str
) -> None:
    """Submissions go on within seconds; what a replica has confirmed is there afterwards."""
    settings = settings_for(watched, namespace, durability=durability)
    async with opened(settings) as broker, loaded(broker) as load:
        await load.grows()
        watched.primary().kill()
        before, killed_at = len(load.accepted), time.time()
        await load.grows()
        assert load.longest_wait < RESUMED_SECONDS
        lost = await lost_of(broker, load.accepted[:before])
        if durability == "replica":
            assert lost == []
        # Otherwise what was on its way to the replica is lost, nothing older.
        assert [i for i in lost if _made_at(i) < killed_at - 1.0] == []
        await Crew(broker).join()


async def test_a_feed_goes_on_after_a_failover(watched: Watched, namespace: str) -> None:
    """A reader gets every accepted task's event, or hears of a gap."""
    settings = settings_for(watched, namespace, durability="replica", partitions=1)
    async with opened(settings) as broker, loaded(broker) as load:
        feed, found = broker.event_feed(), set()
        follower = feed.follow({0: 0})
        await load.grows(20)
        watched.primary().kill()
        await load.grows(20)
        wanted = set(load.accepted)
        with anyio.fail_after(2 * RESUMED_SECONDS):
            while not wanted <= found:
                found |= {event.data.get("task_id") for event in await anext(follower)}
        await follower.aclose()
        await feed.close()


async def test_a_cluster_node_is_killed(clustered: Clustered, namespace: str) -> None:
    """Its replica takes over with all that was confirmed; other partitions do not wait for it."""
    settings = settings_for(clustered, namespace, durability="replica")
    async with opened(settings) as broker, loaded(broker) as load:
        await load.until(lambda: len({partition_of(i) for i in load.accepted}) == 6)
        victim = clustered.owner(broker.partitions[0].meta)
        victim.kill()
        confirmed = list(load.accepted)
        await load.grows(50)
        await patiently(broker.inspection.stats)
        assert await lost_of(broker, confirmed) == []
        # Alone, the new primary has nobody to confirm what it takes.
        victim.start()
        await load.until(lambda: 0 in {partition_of(i) for i in load.accepted[-100:]})
    async with opened(settings) as broker:
        crew = Crew(broker)
        await crew.join()
        done = 0
        while taken := await crew.fetch():
            await crew.report(OutcomeKind.COMPLETE, taken)
            done += len(taken)
        assert done >= len(load.accepted)


async def test_a_slot_moves_under_load(clustered: Clustered, namespace: str) -> None:
    """Scripts wait until the slot has moved as a whole: nothing is half here, half there."""
    settings = settings_for(clustered, namespace)
    async with opened(settings) as broker, loaded(broker) as load:
        crew = Crew(broker)
        await crew.join()
        await load.grows(300)
        await crew.report(OutcomeKind.FAIL, await crew.fetch(20))
        key = broker.partitions[0].meta
        target = clustered.other(clustered.owner(key))
        async with anyio.create_task_group() as group:
            group.start_soon(work, crew, load)
            source = clustered.begin_move(key, target)
            while clustered.move_some(key, source, target):
                await load.grows(1)
            clustered.end_move(key, source, target)
            await load.grows()
            group.cancel_scope.cancel()
        assert clustered.owner(key) is target
        assert await lost_of(broker, list(load.accepted)) == []


async def test_no_script_begins_while_its_slot_moves(clustered: Clustered, namespace: str) -> None:
    """Neither before the first key has moved nor after the last; then the same call counts."""
    settings = settings_for(clustered, namespace, partitions=1)
    redis = settings.redis.model_copy(update={"max_retries": 0})
    async with opened(settings.model_copy(update={"redis": redis})) as broker:
        crew = Crew(broker)
        await crew.join()
        cancelled, *tasks = [new_task(broker) for _ in range(5)]
        await broker.submit_many(tasks)
        held = await crew.fetch()
        await broker.submit(cancelled)
        key = broker.partitions[0].meta
        target = clustered.other(clustered.owner(key))
        source = clustered.begin_move(key, target)
        for _ in range(2):
            for call in (
                lambda: crew.report(OutcomeKind.COMPLETE, held, b"9" * 100),
                lambda: broker.cancel(cancelled.id),
                lambda: broker.submit(new_task(broker)),
            ):
                with pytest.raises(BrokerUnavailableError):
                    await call()
            while clustered.move_some(key, source, target):
                pass
        clustered.end_move(key, source, target)
        await crew.report(OutcomeKind.COMPLETE, held, b"9" * 100)
        await broker.cancel(cancelled.id)
        states = [(await broker.inspection.get(task.id)).state for task in (cancelled, *tasks)]
        assert states == ["cancelled", *["completed"] * 4]


async def work(crew: Crew, load: Load) -> None:
    """Take tasks and report them, as far as the broker answers."""
    while True:
        try:
            await crew.report(OutcomeKind.COMPLETE, await crew.fetch(5))
        except BrokerError:
            load.refused += 1
        await anyio.sleep(0.01)
