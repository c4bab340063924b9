"""What a whole worker publishes of itself, for those who look at it or submit to it."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest
from crew import at_work, ended, submit
from script import Script, quick_settings

from taskqueue_core.broker import Broker
from taskqueue_core.models import HandlerInfo
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio


class Order(msgspec.Struct):
    sku: str
    count: int = 1


@handler("order", timeout=9, queue="shop")
async def order(ctx: TaskContext, payload: Order) -> int:
    """Fail for what is not there."""
    if payload.sku == "none":
        raise ValueError("sold out")
    return payload.count


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with two partitions, and beats that come quickly."""
    quick = quick_settings(redis_url, namespace)
    queue = quick.queue.model_copy(update={"partitions": 2})
    return quick.model_copy(update={"queue": queue})


async def test_handlers_and_schemas(broker: Broker, settings: Settings) -> None:
    """Handlers in every partition, their schemas once, under the digest that the handlers name."""
    async with at_work(settings, order):
        worker = await broker.inspection.worker("w1")
        published = await broker.inspection.handler_schemas("w1")
        copies = await broker.redis.hget(broker.partitions[1].worker("w1"), "schemas")
    schemas = msgspec.json.decode(published, type=dict[str, HandlerSchemas])
    assert schemas == {
        "order": HandlerSchemas(payload=msgspec.json.schema(Order), result={"type": "integer"})
    }
    [info] = msgspec.json.decode(worker.handlers, type=dict[str, HandlerInfo]).values()
    assert (info.queue, info.timeout_seconds, info.executor) == ("shop", 9, "async")
    assert (info.schemas, copies) == (schemas["order"].digest, b"")
    assert worker.process.startswith(f"{os.getpid()} ")


async def test_rates(broker: Broker, settings: Settings) -> None:
    """What was completed and what failed reaches those who look, with the next beats."""
    async with at_work(settings, order):
        for sku in ("a", "b", "none"):
            wanted = {"sku": sku}
            task_id = await submit(broker, "order", payload=wanted, max_retries=0, queue="shop")
            await ended(broker, task_id)
        async with asyncio.timeout(5):
            worker = await broker.inspection.worker("w1")
            while not worker.completed_per_second > worker.failed_per_second > 0:
                await asyncio.sleep(0.02)
                worker = await broker.inspection.worker("w1")


async def test_slot_seconds(broker: Broker, settings: Settings) -> None:
    """A slot is busy from the start of a task to its end, and that shows before it has ended."""
    script = Script()
    async with at_work(settings, script.handler):
        task_id = await submit(broker, "script", payload={"do": "wait"})
        async with asyncio.timeout(5):
            worker = await broker.inspection.worker("w1")
            while not worker.idle_seconds > worker.busy_seconds > 0:
                await asyncio.sleep(0.02)
                worker = await broker.inspection.worker("w1")
        script.go.set()
        await ended(broker, task_id)
