"""As much as the promises speak of, done to real processes, and the ledger counts every run.

``make chaos`` runs it at full size, the tests of every day at a small one; see ``scale.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from scale import SCALE, Calls, drained, submit_all, system, tell
from staff import bury_all, until
from topology import PLACES, Server, Watched

from taskqueue_core.broker import Broker
from taskqueue_core.broker.clients import server_time_ms
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings
from taskqueue_core.verification import oracle
from taskqueue_core.verification.aftermath import collect
from taskqueue_core.verification.faults import BROKER, Incident, Kind
from taskqueue_core.verification.fleet import Fleet
from taskqueue_core.verification.oracle import Evidence
from taskqueue_core.verification.proxy import Mode, dialer
from taskqueue_core.verification.submitter import Accepted, Submitter, Tally

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

#: Longest wait for so many tasks to end, in seconds; on a machine of its own a tenth is enough.
DRAIN_SECONDS = 240.0
#: What holds for tasks that were redriven: they have died before.
AFTER_DEATH = (oracle.lost, oracle.stuck, oracle.wrong_ending, oracle.fence_reused)
#: What holds after a failover: with what a primary had not passed on, a start may be forgotten.
AFTER_FAILOVER = (
    *(oracle.lost, oracle.stuck, oracle.wrong_ending, oracle.ended_twice),
    *(oracle.slow_return, oracle.noisy),
)


def quick_tasks(broker: Broker, count: int, due_ms: int | None = None) -> list[NewTask]:
    """Return tasks that take no time, are to be completed, and die of one failure."""
    return [
        NewTask(
            id=broker.new_task_id(),
            type="verify.async",
            payload=b'{"milliseconds":0}',
            metadata=b'{"expected":"completed"}',
            max_retries=0,
            scheduled_at_ms=due_ms,
        )
        for _ in range(count)
    ]


async def evidence_of(
    broker: Broker, fleet: Fleet, tally: Tally, incidents: Sequence[Incident] = ()
) -> Evidence:
    """Stop all processes and return what is known; everything must be in its place."""
    assert await fleet.stop_all() == []
    tell("counting")
    evidence = await collect(
        broker,
        fleet,
        accepted={one.task_id: one.at for one in tally.accepted},
        submitted_until=tally.until,
        incidents=incidents,
        slack_seconds=SCALE.slack_seconds,
    )
    if not SCALE.is_full:
        # It asks for one task after the other; the counts below are the same in a second.
        assert await broker.inspection.audit() == []
    stats = await broker.inspection.queue_stats()
    queued = sum(depth.queued for depth in stats.depths.values())
    assert (queued, stats.scheduled_count, stats.backlog) == (0, 0, 0)
    places = [(keys.done, keys.dead_letters) for keys in broker.partitions]
    counts = [await broker.redis.zcard(key) for pair in places for key in pair]
    assert sum(counts) == len(evidence.tasks)
    return evidence


def accepted_now(tasks: Sequence[NewTask]) -> Tally:
    """Return the tally of tasks that were submitted without HTTP."""
    now = time.monotonic()
    return Tally(accepted=[Accepted(task.id, now) for task in tasks], until=now)


def runs(evidence: Evidence) -> Counter[int]:
    """Return how many tasks were started how often."""
    return Counter(len(evidence.starts.get(task_id, [])) for task_id in evidence.accepted)


async def test_everything_is_due_at_once(victim: EmbeddedBroker, tmp_path: Path) -> None:
    """Each task runs once, none early, and no call of the broker takes long."""
    settings = Settings(redis=RedisSettings(url=victim.url))
    # Two workers at least compete for what is due.
    servers, workers = SCALE.processes, max(2, SCALE.processes)
    async with system(settings, tmp_path, servers=servers, workers=workers) as (broker, fleet):
        due = await server_time_ms(broker.redis) + await lead_ms(broker)
        calls = Calls(broker)
        await calls.watch()
        tasks = quick_tasks(broker, SCALE.scheduled, due)
        assert await submit_all(broker, tasks) == ["scheduled"], "some came after they were due"
        left = due - await server_time_ms(broker.redis)
        tell(f"{len(tasks)} tasks are scheduled, due at once in {left / 1000:.1f} s")
        await drained(broker, within_seconds=DRAIN_SECONDS)
        took = (await server_time_ms(broker.redis) - due) / 1000
        tell(f"all have run {took:.1f} s after they were due, {len(tasks) / took:.0f} a second")
        longest = await calls.longest_seconds()
        evidence = await evidence_of(broker, fleet, accepted_now(tasks))
    assert oracle.judge(evidence) == []
    assert runs(evidence) == {1: len(tasks)}
    # By the broker's clock, both when a worker was given it and when its handler began.
    given = min(evidence.tasks[task.id].started_at_ms or 0 for task in tasks)
    began = min(evidence.starts[task.id][0].at for task in tasks) + evidence.broker_offset
    tell(f"earliest: given {given - due} ms, begun {began * 1000 - due:.0f} ms after it was due")
    assert given >= due
    assert began >= due / 1000
    assert longest < SCALE.call_seconds


async def lead_ms(broker: Broker) -> int:
    """Return how long before they are due tasks must be submitted, so that all of them wait."""
    tasks = quick_tasks(broker, SCALE.scheduled // 50)
    began = time.monotonic()
    await submit_all(broker, tasks)
    took_seconds = 50 * (time.monotonic() - began)
    await drained(broker, within_seconds=DRAIN_SECONDS)
    return round(2000 + 2000 * took_seconds)


async def test_redrive_of_a_server_that_is_killed(victim: EmbeddedBroker, tmp_path: Path) -> None:
    """Another one goes on where it was, and every dead letter runs again once."""
    settings = Settings(redis=RedisSettings(url=victim.url))
    dial = dialer(victim.url)
    async with system(settings, tmp_path, servers=2, workers=0, dial=dial) as (broker, fleet):
        tasks = quick_tasks(broker, SCALE.dead_letters)
        await submit_all(broker, tasks)
        await bury_all(broker, len(tasks))
        tell(f"{len(tasks)} dead letters")
        for _ in range(SCALE.processes):
            await fleet.add("worker")
        await fleet.until_ready(broker)
        calls = Calls(broker)
        await calls.watch()
        left = await redrive_half(broker, fleet, len(tasks))
        tell(f"the server was killed with {left} dead letters left")
        answer = await redrive(fleet.urls[1])
        tell(f"the other server has redriven {answer.json()['retried_count']}")
        assert 0 < answer.json()["retried_count"] <= left < len(tasks)
        await drained(broker, within_seconds=DRAIN_SECONDS)
        longest = await calls.longest_seconds()
        evidence = await evidence_of(broker, fleet, accepted_now(tasks))
    assert [found for rule in AFTER_DEATH for found in rule(evidence)] == []
    assert runs(evidence) == {1: len(tasks)}
    assert {task.deliveries for task in evidence.tasks.values()} == {2}
    assert longest < SCALE.call_seconds


async def redrive(url: str) -> httpx.Response:
    """Have a server send every dead letter back."""
    async with httpx.AsyncClient(timeout=DRAIN_SECONDS) as http:
        return await http.post(f"{url}/admin/dlq/retry", json={"retry_all": True})


async def redrive_half(broker: Broker, fleet: Fleet, count: int) -> int:
    """Kill the first server when half of its redrive is done; how many are left."""
    server = fleet.of("server")[0]
    assert server.proxy is not None
    # A little slower, so that there is a middle to hit also where there are few.
    server.proxy.switch(Mode.SLOW, delay_seconds=0.003)
    asking = asyncio.create_task(redrive(fleet.urls[0]))

    async def is_half_way() -> bool:
        assert not asking.done()
        return (await broker.inspection.queue_stats()).dead_letter_count <= count // 2

    await until(is_half_way, "half of the redrive", within_seconds=DRAIN_SECONDS)
    fleet.kill(server)
    with pytest.raises(httpx.TransportError):
        await asking
    left = (await broker.inspection.queue_stats()).dead_letter_count
    fleet.start(server)
    return left


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Yield servers under Sentinel that nobody else uses."""
    place = PLACES["sentinel"](tmp_path / "servers")
    assert isinstance(place, Watched)
    yield place
    place.close()


async def test_primaries_are_killed_under_load(watched: Watched, tmp_path: Path) -> None:
    """Work goes on by itself after each failover, nothing is lost, and nobody makes noise."""
    settings = Settings(
        redis=RedisSettings(url=watched.url, read_timeout_seconds=1.0),
        queue=QueueSettings(durability="replica"),
    )
    incidents = []
    count = SCALE.processes
    async with system(settings, tmp_path, servers=count, workers=count) as (broker, fleet):
        async with submitting(fleet, tmp_path) as tally:
            for number in range(SCALE.failovers):
                # The one that was killed is a replica now; what has to do with tasks went on alone.
                await asyncio.to_thread(watched.heal)
                await grows(tally, 60)
                tell(f"failover {number + 1} of {SCALE.failovers}: the primary is killed")
                incidents.append(await fail_over(watched))
                await grows(tally, 60)
        await drained(broker, within_seconds=DRAIN_SECONDS)
        evidence = await evidence_of(broker, fleet, tally, incidents)
    for what, seconds in oracle.resumptions(evidence):
        tell(f"{what} {seconds:.1f} s after the promotion")
    most = max(map(oracle.lines_a_minute, evidence.lines.values()))
    tell(f"{len(tally.accepted)} tasks accepted; at most {most} log lines a minute of a process")
    assert tally.unexpected == []
    assert [found for rule in AFTER_FAILOVER for found in rule(evidence)] == []


@asynccontextmanager
async def submitting(fleet: Fleet, folder: Path) -> AsyncIterator[Tally]:
    """Submit over HTTP meanwhile."""
    submitter = Submitter(
        fleet.urls, folder / "accepted.jsonl", random.Random(3), tasks_per_second=30
    )
    running = asyncio.create_task(submitter.run(clients=4))
    yield submitter.tally
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def grows(tally: Tally, count: int) -> None:
    """Return when so many more were accepted."""
    goal = len(tally.accepted) + count

    async def are_enough() -> bool:
        return len(tally.accepted) >= goal

    await until(are_enough, f"{count} more tasks", within_seconds=30)


async def fail_over(place: Watched) -> Incident:
    """Kill the primary; the broker was away until another server was promoted."""
    victim, began = place.primary(), time.monotonic()
    victim.kill()

    async def is_promoted() -> bool:
        return await asyncio.to_thread(has_primary, place, victim)

    await until(is_promoted, "a promotion", within_seconds=30)
    ended = time.monotonic()
    tell(f"another server is the primary after {ended - began:.1f} s")
    return Incident(kind=Kind.BROKER_KILL, who=BROKER, began=began, ended=ended)


def has_primary(place: Watched, victim: Server) -> bool:
    """Tell whether another server takes writes."""
    others = [server for server in place.servers if server is not victim]
    return any(server.info("replication").get("role") == "master" for server in others)
