"""The watchdog: a worker that hears nothing although Redis answers connects again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from crew import at_work, ended, submit
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, open_broker, open_redis
from taskqueue_core.broker.clients import CLIENT_ERRORS, Client
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_core.states import TaskState
from taskqueue_core.worker import watchdog as module
from taskqueue_core.worker.watchdog import Watchdog

pytestmark = pytest.mark.anyio

#: Far beyond what a test waits: what ends a call is the watchdog, not the client's own timeout.
PATIENCE_SECONDS = 60.0


class Proxy:
    """Passes bytes on, until it forgets its connections: they stay open and are silent."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path = path
        self._server = server
        self._epoch = 0
        self._flows: set[asyncio.Task[None]] = set()

    def forget(self) -> None:
        """Swallow from now on what Redis says on the connections that there are."""
        self._epoch += 1

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client."""
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        for flow in (
            self._pass_on(reader, to_server, is_answer=False),
            self._pass_on(from_server, writer, is_answer=True),
        ):
            self._flows.add(asyncio.create_task(flow))

    async def close(self) -> None:
        """End all connections."""
        for flow in self._flows:
            flow.cancel()
        await asyncio.gather(*self._flows, return_exceptions=True)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        epoch = self._epoch
        try:
            while data := await reader.read(65536):
                if epoch == self._epoch or not is_answer:
                    writer.write(data)
        finally:
            writer.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the socket of a broker that is reached through nothing but it."""
    with EmbeddedBroker(tmp_path_factory.mktemp("watched")) as embedded:
        yield Path(unquote(urlsplit(embedded.url).path))


@pytest.fixture
def settings(settings: Settings, server: Path) -> Settings:
    """Return the settings for that broker."""
    return settings.model_copy(update={"redis": RedisSettings(url=f"unix://{server}")})


@pytest.fixture
async def proxy(server: Path, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Yield a proxy before the broker."""
    proxy = Proxy(tmp_path / "s", server)
    listening = await asyncio.start_unix_server(proxy.accept, proxy.path)
    yield proxy
    listening.close()
    await proxy.close()


@pytest.fixture
def proxied(settings: Settings, proxy: Proxy) -> Settings:
    """Return settings that lead through the proxy."""
    redis = RedisSettings(url=f"unix://{proxy.path}", read_timeout_seconds=PATIENCE_SECONDS)
    return settings.model_copy(update={"redis": redis})


class Ear:
    """A listener that a test steers."""

    def __init__(self) -> None:
        self.answers = 0
        self.is_waiting = True


class Dog:
    """A watchdog over one ear, which does nothing but note that it would connect again."""

    def __init__(self, settings: Settings, broker: Broker, monkeypatch: Any) -> None:
        self.ear = Ear()
        self.closed: list[Client] = []
        self.now = 1000.0
        session = broker.session("w1", "i1")
        monkeypatch.setattr(module, "_disconnect", self._disconnect)
        self.redis = broker.redis
        self._watchdog = Watchdog(
            settings,
            session,
            calls=(broker.redis, [self.ear]),
            blocks=(broker.redis, []),
            clock=lambda: self.now,
        )

    async def look(self, seconds: int) -> int:
        """Look once a second for so many seconds; how often it has connected again by then."""
        for _ in range(seconds):
            self.now += 1
            await self._watchdog.run_once()
        return len(self.closed)

    def sleep(self, seconds: float) -> None:
        """Let time pass without a look."""
        self.now += seconds

    async def _disconnect(self, client: Client) -> None:
        self.closed.append(client)


async def test_silence_is_noticed_once(
    broker: Broker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten seconds without an answer that was due; then the clock starts again."""
    dog = Dog(settings, broker, monkeypatch)
    with capture_logs() as lines:
        assert await dog.look(11) == 0
        assert await dog.look(1) == 1
        assert await dog.look(10) == 1
    assert dog.closed == [dog.redis]
    assert [line["silent"] for line in lines] == [["ear"]]


async def test_what_is_no_silence(
    broker: Broker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer now and then, nothing that was due, and a loop that a handler has blocked."""
    dog = Dog(settings, broker, monkeypatch)
    for _ in range(3):
        await dog.look(8)
        dog.ear.answers += 1
    dog.ear.is_waiting = False
    await dog.look(30)
    dog.ear.is_waiting = True
    await dog.look(8)
    dog.sleep(60)
    assert await dog.look(8) == 0


async def test_a_redis_that_is_away_is_left_to_the_calls(
    broker: Broker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They notice by themselves, and to connect again would not help."""
    away = settings.model_copy(update={"redis": RedisSettings(url="unix:///nonexistent/socket")})
    dog = Dog(away, broker, monkeypatch)
    assert await dog.look(40) == 0


async def test_connections_are_closed_and_calls_repeated(proxied: Settings, proxy: Proxy) -> None:
    """A call that waits on a dead connection is answered on a new one."""
    broker = open_broker(proxied)
    await broker.prepare()
    proxy.forget()
    waiting = asyncio.create_task(broker.ping())
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    await module._disconnect(broker.redis)
    async with asyncio.timeout(5):
        await waiting
    await broker.close()


async def test_a_blocked_call_ends(proxied: Settings, proxy: Proxy) -> None:
    """It is not repeated, for it may have taken something; its loop calls again."""
    redis: Any = open_redis(proxied, blocks_seconds=4)
    await redis.ping()
    proxy.forget()
    waiting = asyncio.create_task(redis.blpop(["nothing"], timeout=4))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    await module._disconnect(redis)
    with pytest.raises(CLIENT_ERRORS):
        async with asyncio.timeout(5):
            await waiting
    await redis.aclose()


async def test_a_deaf_worker_works_again(broker: Broker, proxied: Settings, proxy: Proxy) -> None:
    """Its connections go silent while it waits for tasks: the next one runs all the same."""

    @handler("echo")
    async def echo(ctx: TaskContext, payload: dict[str, Any]) -> None: ...

    # The heartbeat has its own way to notice, which is not the subject here.
    async with at_work(proxied, echo) as worker:
        first = await submit(broker)
        await ended(broker, first)
        for watched in worker._watchdog._watched:
            watched._limit_seconds = 1.5
        proxy.forget()
        second = await submit(broker)
        with capture_logs() as lines:
            task = await ended(broker, second, within_seconds=15)
    assert (task.state, task.deliveries) == (TaskState.COMPLETED, 1)
    assert [line for line in lines if "connecting again" in line["event"]]
