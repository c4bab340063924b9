"""A Redis that answers, but with "not now"; and one that has become a replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import ResponseError
from staff import at_work, ended, submit, until

from taskqueue_core.broker import Broker, open_broker, open_redis, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_core.verification.proxy import Proxy, dialer
from taskqueue_core.worker.control import Control
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio

#: Nobody listens there.
NOWHERE = ("REPLICAOF", "127.0.0.1", "1")


@handler("nap", timeout=60)
async def nap(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Do nothing."""


@asynccontextmanager
async def busy(redis: Any, settings: Settings) -> AsyncIterator[None]:
    """Keep Redis busy with a script that does not end."""
    await redis.config_set("busy-reply-threshold", 1)
    own: Any = open_redis(settings, blocks_seconds=30)
    running = asyncio.create_task(own.eval("while true do end", 0))

    async def says_so() -> bool:
        try:
            await redis.ping()
        except ResponseError as error:
            return str(error).startswith("BUSY")
        return False

    await until(says_so, "Redis is busy")
    try:
        yield
    finally:
        await redis.script_kill()
        with suppress(ResponseError):
            await running
        await own.aclose()


@asynccontextmanager
async def demoted(redis: Any, _: Settings) -> AsyncIterator[None]:
    """Have Redis be a replica, of a primary that it cannot reach."""
    await redis.execute_command(*NOWHERE)
    yield
    await redis.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def orphaned(redis: Any, settings: Settings) -> AsyncIterator[None]:
    """Have Redis be a replica that answers nothing without its primary."""
    await redis.config_set("replica-serve-stale-data", "no")
    async with demoted(redis, settings):
        yield


@pytest.mark.parametrize("trouble", [busy, demoted, orphaned])
async def test_not_now_is_a_503_and_passes(
    fragile_broker: Broker, fragile: Settings, trouble: Callable[..., Any]
) -> None:
    """Clients are told to come again, the worker waits; afterwards both go on by themselves."""
    app = create_app(fragile)
    transport = httpx.ASGITransport(app)

    async def post(http: httpx.AsyncClient) -> httpx.Response:
        return await http.post("/api/v1/tasks", json={"type": "nap"})

    async with (
        app.running(),
        httpx.AsyncClient(transport=transport, base_url="http://x") as http,
        at_work(fragile, nap),
    ):
        async with trouble(fragile_broker.redis, fragile):
            answer = await post(http)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["type"].endswith("broker-unavailable")
            with pytest.raises(BrokerUnavailableError, match="not ready"):
                await fragile_broker.promote()
        answer = await post(http)
        assert answer.status_code == 201, answer.text
        assert (await ended(fragile_broker, answer.json()["id"])).state is TaskState.COMPLETED


@pytest.fixture
def successor(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """Yield the broker that becomes primary."""
    with EmbeddedBroker(tmp_path / "successor") as broker:
        yield broker


@pytest.fixture
def fail_over(
    fragile_broker: Broker, proxy: Proxy, successor: EmbeddedBroker
) -> Callable[[], Awaitable[None]]:
    """Return what demotes the broker and leads the name of both to its successor.

    Connections that there are stay with the former primary, as behind a DNS name.
    """

    async def fail_over() -> None:
        dial = dialer(successor.url)
        assert dial is not None
        await fragile_broker.redis.execute_command(*NOWHERE)
        proxy._dial = dial

    return fail_over


@pytest.fixture
async def beyond(fragile: Settings, successor: EmbeddedBroker) -> AsyncIterator[Broker]:
    """Yield a client of the successor."""
    broker = open_broker(with_url(fragile, successor.url))
    await broker.prepare()
    yield broker
    assert await broker.inspection.audit() == []
    await broker.close()


async def test_a_refused_call_leads_to_the_new_primary(
    proxied: Settings, beyond: Broker, fail_over: Callable[[], Awaitable[None]]
) -> None:
    """Also one that is not repeated by itself: the next one goes where the name leads by now."""
    redis = proxied.redis.model_copy(update={"max_retries": 0})
    broker = open_broker(proxied.model_copy(update={"redis": redis}))
    await submit(broker, "nap")
    await fail_over()
    with pytest.raises(BrokerUnavailableError, match="not ready"):
        await submit(broker, "nap")
    task_id = await submit(broker, "nap")
    assert (await beyond.inspection.get(task_id)).state is TaskState.PENDING
    await broker.close()


async def test_a_blocking_call_leads_to_the_new_primary(
    proxied: Settings,
    fragile_broker: Broker,
    beyond: Broker,
    fail_over: Callable[[], Awaitable[None]],
) -> None:
    """A worker would never hear of anything again over the connection that it has."""
    heard: list[str] = []
    session = beyond.session("w1", "i1")
    key = session.keys.control("w1")
    blocking = open_redis(proxied, blocks_seconds=5)
    control = Control(blocking, session, heard.append)
    await fragile_broker.redis.rpush(key, "pause")
    await control.run_once()
    await fail_over()
    await beyond.redis.rpush(key, "resume")
    with pytest.raises(BrokerUnavailableError, match="not ready"):
        await control.run_once()
    await control.run_once()
    assert heard == ["pause", "resume"]
    await blocking.aclose()


async def test_a_worker_goes_on_at_the_new_primary(
    proxied: Settings,
    fragile_broker: Broker,
    beyond: Broker,
    fail_over: Callable[[], Awaitable[None]],
) -> None:
    """It registers there and runs what is submitted there."""
    async with at_work(proxied, nap):
        await ended(fragile_broker, await submit(fragile_broker, "nap"))
        await fail_over()
        task_id = await submit(beyond, "nap")
        assert (await ended(beyond, task_id)).state is TaskState.COMPLETED
        assert [worker.id for worker in await beyond.inspection.workers()] == ["w1"]
