"""running: what a worker is doing at this moment."""

from __future__ import annotations

import pytest
from bench import Bench, complete, task_id_of

from taskqueue_core.broker import inspection as inspection_module
from taskqueue_core.models import RunningTask

pytestmark = pytest.mark.anyio


async def test_running(bench: Bench) -> None:
    """Its own tasks of all queues, the latest first; not those of others, nor ended ones."""
    first = await bench.start("mail", queue="mail")
    started = bench.now
    await bench.advance(5)
    second = await bench.start("echo")
    ended = await bench.start("echo")
    await bench.w1.complete([complete(ended)])
    other = bench.broker.session("w2", "i2")
    await bench.join(other)
    await bench.submit("other")
    await bench.fetch(1, session=other)
    running = bench.broker.inspection.running
    assert await running("w1") == [
        RunningTask(task_id_of(second), "echo", started + 5),
        RunningTask(task_id_of(first), "mail", started),
    ]
    assert [task.type for task in await running("w2")] == ["other"]
    assert await running("nobody") == []


async def test_of_an_instance_that_is_gone(bench: Bench) -> None:
    """What a former instance of the name has left is not running, whatever the list says."""
    await bench.start()
    await bench.redis.hset(bench.keys.worker("w1"), "instance", "another")
    assert await bench.broker.inspection.running("w1") == []
    await bench.redis.hset(bench.keys.worker("w1"), "instance", "i1")


async def test_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many are read; entries deleted by hand are passed over."""
    monkeypatch.setattr(inspection_module, "MAX_RUNNING", 3)
    for queue in ("a", "b", "c"):
        await bench.start(queue=queue)
        await bench.start(queue=queue)
    assert len(await bench.broker.inspection.running("w1")) == 3


async def test_rates_and_process(bench: Bench) -> None:
    """A heartbeat brings the rates, the registration the process."""
    await bench.w1.register(concurrency=1, version="1", handlers={}, process="12 host-1")
    worker = await bench.broker.inspection.worker("w1")
    assert (worker.process, worker.completed_per_second) == ("12 host-1", 0.0)
    await bench.beat(rates=(12.5, 0.25))
    worker = await bench.broker.inspection.worker("w1")
    assert (worker.completed_per_second, worker.failed_per_second) == (12.5, 0.25)


async def test_schemas_are_read_apart(bench: Bench) -> None:
    """They are large: a list of workers does not carry them."""
    read = bench.broker.inspection.handler_schemas
    assert await read("w1") == b"{}"
    await bench.w1.register(
        concurrency=1, version="1", handlers={}, schemas=b'{"echo":{"payload":{}}}'
    )
    assert await read("w1") == b'{"echo":{"payload":{}}}'
