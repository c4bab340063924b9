"""Redis that is full, or that would evict tasks to make room."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from staff import at_work, until

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.errors import SchemaError
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio

TASK = {"type": "nap", "payload": {"padding": "x" * 20_000}}


@handler("nap", timeout=60)
async def nap(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Do nothing."""


async def test_full_memory(fragile_broker: Broker, fragile: Settings) -> None:
    """Submissions get 503, what is there is worked off, and submissions work again."""
    client: Any = fragile_broker.redis
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used + 2_000_000)
    brief = fragile.queue.model_copy(update={"task_retention_days": 1e-6})
    settings = fragile.model_copy(update={"queue": brief})
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://x") as http:

        async def status() -> int:
            return (await http.post("/api/v1/tasks", json=TASK)).status_code

        while (answer := await status()) == 201:
            pass
        assert answer == 503
        async with at_work(settings, nap):

            async def is_drained() -> bool:
                return (await fragile_broker.inspection.queue_stats()).backlog == 0

            await until(is_drained, "the end of the backlog")

            async def is_accepted() -> bool:
                await fragile_broker.retain()
                return await status() == 201

            await until(is_accepted, "a submission that is accepted again")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_evicts_is_refused(
    fragile_broker: Broker, fragile: Settings, policy: str
) -> None:
    """Neither server nor worker starts: tasks would vanish without a word."""
    client: Any = fragile_broker.redis
    await client.config_set("maxmemory-policy", policy)
    broker = open_broker(fragile)
    with pytest.raises(SchemaError, match="would evict tasks"):
        await broker.prepare()
    await broker.close()
    with pytest.raises(SchemaError, match="would evict tasks"):
        async with at_work(fragile, nap):
            pass
