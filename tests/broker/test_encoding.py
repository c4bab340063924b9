"""Memory: a task's hash stays a listpack for life, and small bodies need no key."""

from __future__ import annotations

import pytest
from bench import Bench, complete, fail, hold, release, task_id_of

from taskqueue_core.broker import WorkerSession
from taskqueue_core.models import Delivery

pytestmark = pytest.mark.anyio

LONGEST = "n" * 64
INSTANCE = "f" * 32


async def check(bench: Bench, delivery: Delivery) -> None:
    """Assert the encoding, and the bound on each value that it follows from."""
    row = await bench.task(task_id_of(delivery))
    assert {name: value for name, value in row.items() if len(value) > 64} == {}
    encoding = await bench.redis.object("ENCODING", bench.keys.task(delivery.digits))
    assert encoding == b"listpack"


async def take(bench: Bench, session: WorkerSession) -> Delivery:
    await bench.advance(10_000)
    await bench.beat(session)
    delivery = (await bench.fetch(1, session=session)).deliveries[0]
    await check(bench, delivery)
    return delivery


async def test_whole_life_with_the_longest_names(bench: Bench) -> None:
    """Whatever happens to it, no field of a task is longer than 64 bytes."""
    session = bench.broker.session(LONGEST, INSTANCE)
    await bench.join(session)
    task = bench.new(
        LONGEST,
        queue=LONGEST,
        owner=LONGEST,
        priority=3,
        max_retries=2**31,
        timeout_seconds=2**31,
        scheduled_at_ms=bench.now + 1,
        payload=b'"' + b"x" * 60 + b'"',
    )
    await bench.broker.submit(task)
    await bench.advance(1)
    await bench.broker.promote()
    delivery = await take(bench, session)
    await session.release([release(delivery)])
    delivery = await take(bench, session)
    await session.hold([hold(delivery)])
    delivery = await take(bench, session)
    await session.fail([fail(delivery, b"e" * 64, max_retries=9, history=b"h" * 500)])
    await check(bench, delivery)
    delivery = await take(bench, session)
    await session.fail([fail(delivery, b"e" * 65, max_retries=9)])
    await check(bench, delivery)
    delivery = await take(bench, session)
    await bench.age(delivery, 20_000, LONGEST)
    [delivery] = (await session.recover(1, streams=await bench.streams())).deliveries
    await check(bench, delivery)
    await session.fail([fail(delivery, b"e" * 5_000, reason="r" * 500)])
    await check(bench, delivery)
    await bench.broker.retry(task.id)
    delivery = await take(bench, session)
    await session.complete([complete(delivery, b"1" * 64)])
    await check(bench, delivery)


@pytest.mark.parametrize("size", [64, 65])
async def test_body(bench: Bench, size: int) -> None:
    """A body of up to 64 bytes is a field, a longer one a key."""
    payload = b'"' + b"x" * (size - 4) + b'"'
    delivery = await bench.start(payload=payload)
    await check(bench, delivery)
    assert delivery.body == b"[%b]" % payload
    assert (f"b:{delivery.digits}" in await bench.snapshot()) == (size > 64)


async def test_minimal_task_is_one_key(bench: Bench) -> None:
    """A minimal queued task is its hash and a stream entry: no body key, no default written."""
    await bench.submit()
    before = (await bench.snapshot()).keys()
    task_id = await bench.submit()
    assert len((await bench.snapshot()).keys() - before) == 1
    assert set(await bench.task(task_id)) == {"s", "y", "m", "b"}
