"""repair: step by step through all of a namespace, while others work in it."""

from __future__ import annotations

import asyncio

import pytest
from bench import Bench, complete
from damages import audit, drop_stream, repair

from taskqueue_core.broker import Broker, WorkerSession, open_redis
from taskqueue_core.errors import BrokerError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import OutcomeStatus
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio

ACCEPTED = OutcomeStatus.ACCEPTED
LARGE = b'"' + b"x" * 80 + b'"'

WAITS = "waits in its queue again"
RAN = "was running without a lease: it waits in its queue again"


async def test_every_step(bench: Bench) -> None:
    """More than a step holds is repaired, of every kind."""
    await bench.join()
    await bench.broker.submit_many([bench.new() for _ in range(100)])
    await bench.fetch(100)
    await bench.broker.submit_many([bench.new() for _ in range(100)])
    await bench.fetch(30)
    stream = bench.keys.stream("default", 1)
    entries = [entry for entry, _ in await bench.redis.xrange(stream, count=130)]
    await bench.redis.xdel(stream, *entries)
    pipe = bench.redis.pipeline()
    for number in range(250):
        pipe.xadd(stream, {"i": f"{number:032x}"})
        pipe.zadd(bench.keys.done, {f"{number:032x}": 1})
    await pipe.execute()
    repairs = await repair(bench)
    found = [
        len([line for line in repairs if part in line])
        for part in (RAN, "pending but deleted", "no task's place")
    ]
    assert found == [130, 130, 250]
    assert len(repairs) == 130 + 130 + 250 + 250
    assert await audit(bench) == []


async def test_what_comes_later_is_not_looked_at(bench: Bench) -> None:
    """However fast entries are added, the walk through a stream has an end."""
    await bench.submit()
    stream = bench.keys.stream("default", 1)
    for number in range(101):
        last = await bench.redis.xadd(stream, {"i": f"{number:032x}"})
    call, keys = bench.broker.scripts.call, [bench.keys.meta, stream]
    entry, pending_entry, end, *repairs = await call("repair", keys, ["-", "-", "", 0, ""])
    assert (pending_entry, end, len(repairs)) == (b"", last, 2 * 99)
    await bench.redis.xadd(stream, {"i": "f" * 32})
    entry, _, _, *repairs = await call("repair", keys, [entry, "", end, 0, ""])
    assert (entry, len(repairs)) == (b"", 2 * 2)
    assert len(await repair(bench)) == 1


async def test_a_call_is_bounded(bench: Bench) -> None:
    """One call looks at no more than a hundred tasks."""
    arguments = ["", "", "", 0, "", *(f"{number:032x}" for number in range(101))]
    with pytest.raises(BrokerError, match="at most 100"):
        await bench.broker.scripts.call("repair", [bench.keys.meta], arguments)


async def test_the_same_task_twice(bench: Bench) -> None:
    """SCAN may bring a task twice: it is put back once."""
    digits = id_to_hex(await bench.submit())
    await drop_stream(bench, digits)
    arguments = ["", "", "", 0, "", digits, digits]
    reply = await bench.broker.scripts.call("repair", [bench.keys.meta], arguments)
    assert reply == [b"", b"", b"", 2, digits.encode()]
    assert len((await bench.snapshot())["q:default:1"]) == 1


async def test_all_partitions(settings: Settings) -> None:
    """Each partition is repaired."""
    queue = settings.queue.model_copy(update={"partitions": 3})
    broker = Broker(open_redis(settings), settings.model_copy(update={"queue": queue}))
    await broker.prepare()
    bench = Bench(broker, 0)
    await broker.submit_many([bench.new() for _ in range(30)])
    for keys in broker.partitions:
        await bench.redis.delete(keys.stream("default", 1))
    assert len(await repair(bench)) == 30
    assert await audit(bench) == []
    await broker.close()


async def _work(bench: Bench, session: WorkerSession, stop: asyncio.Event) -> int:
    """Take and complete tasks until told to stop; the number of outcomes that were accepted."""
    accepted = request = 0
    streams = [bench.keys.stream("default", 1)]
    while not stop.is_set():
        request += 1
        fetched = await session.fetch(7, streams=streams, request=request)
        done = [complete(delivery, LARGE) for delivery in fetched.deliveries]
        accepted += (await session.complete(done)).count(ACCEPTED)
    return accepted


async def _submit(bench: Bench, count: int) -> None:
    for _ in range(count):
        await bench.broker.submit_many([bench.new(payload=LARGE) for _ in range(5)])


async def _ended(bench: Bench, count: int) -> None:
    ended = 0
    while ended < count:
        ended = (await bench.broker.inspection.stats()).get("finished:other:completed", 0)


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_while_others_work(bench: Bench, *, is_damaged: bool) -> None:
    """Tasks that move all the time are not touched; those that lost their stream end once too."""
    sessions = [bench.broker.session(f"w{n}", f"i{n}") for n in range(3)]
    for session in sessions:
        await bench.join(session)
    stop, repairs = asyncio.Event(), []
    await _submit(bench, 10)
    if is_damaged:
        await bench.redis.delete(bench.keys.stream("default", 1))
    async with asyncio.timeout(25), asyncio.TaskGroup() as group:
        working = [group.create_task(_work(bench, session, stop)) for session in sessions]
        submitting = group.create_task(_submit(bench, 90))
        while not submitting.done():
            repairs += await repair(bench)
            if is_damaged:
                await bench.redis.delete(bench.keys.stream("default", 1))
        repairs += await repair(bench)
        await _ended(bench, 500)
        stop.set()
    assert sum(task.result() for task in working) == 500
    assert bool(repairs) is is_damaged
    assert not [line for line in repairs if not line.endswith((WAITS, RAN))]
    assert (await bench.broker.inspection.queue_stats()).backlog == 0
