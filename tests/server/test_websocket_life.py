"""How long a connection lives: pings, a full house, and the end of the server."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from answers import AnswerChecker
from sockets import read_to_the_end
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import NewTask
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import EventSettings, Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.messages import Message
from taskqueue_server.serving import Server, make_config

pytestmark = pytest.mark.anyio

_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {0}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@asynccontextmanager
async def served(settings: Settings, **options: Any) -> AsyncIterator[tuple[str, Application]]:
    """Yield host:port of a server and its application; the server stops afterwards."""
    listener = bind_listener("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    host, port = listener.getsockname()[:2]
    app = create_app(settings, broker=open_broker(settings), report_seconds=3_600, **options)
    server = Server(app, settings)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"{host}:{port}", app
    finally:
        server.should_exit = True
        await running
        listener.close()


async def deaf(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that answers nothing by itself, after its handshake.

    Its network takes little in advance.
    """
    host, _, port = address.partition(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=narrow)
    writer.write(_HANDSHAKE.format(address).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def left(app: Application) -> None:
    """Return once nobody listens any more."""
    end = time.monotonic() + 10
    while app.hub.count():
        assert time.monotonic() < end, "a listener is left"
        await asyncio.sleep(0.01)


def test_pings_are_sent(settings: Settings) -> None:
    """A client that is gone without a word is noticed within 40 seconds."""
    config = make_config(create_app(settings), settings)
    assert (config.ws_ping_interval, config.ws_ping_timeout) == (20, 20)


async def test_a_client_that_answers_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ping after ping, also when nothing happens."""
    monkeypatch.setattr("taskqueue_server.serving.PING_SECONDS", 0.5)
    async with served(settings) as (address, app), connect(f"ws://{address}/ws") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await client.recv()
        assert (client.close_code, app.hub.count()) == (None, 1)


async def test_a_client_that_does_not_answer_is_sent_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again."""
    monkeypatch.setattr("taskqueue_server.serving.PING_SECONDS", 0.1)
    async with served(settings) as (address, app):
        reader, writer = await deaf(address)
        async with asyncio.timeout(10):
            sent = await reader.read()
        # A ping of four bytes, and the close frame with its code.
        assert (sent[:2], sent[6:7], sent[8:10]) == (
            b"\x89\x04",
            b"\x88",
            (1011).to_bytes(2, "big"),
        )
        await left(app)
        writer.close()


async def test_a_client_that_reads_nothing_is_cut_off(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits for it: a farewell that nobody reads is not waited for."""
    monkeypatch.setattr("taskqueue_server.framing.ABORT_SECONDS", 0.1)
    monkeypatch.setattr("taskqueue_server.serving.PING_SECONDS", 0.5)
    async with served(settings, capacity=100_000) as (address, app):
        reader, writer = await deaf(address)
        writer.transport.pause_reading()
        for _ in range(10):
            tasks = [NewTask(id=broker.new_task_id(), type="x" * 64) for _ in range(100)]
            await broker.submit_many(tasks)
        await left(app)
        writer.transport.abort()
        assert reader.exception() is None


async def test_the_end_of_the_server(settings: Settings, broker: Broker) -> None:
    """Who reads is told that the server goes away; who does not cannot hold it up."""
    async with served(settings) as (address, _):
        clients = [await connect(f"ws://{address}/ws") for _ in range(10)]
        _, writer = await deaf(address)
        await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
        codes = [asyncio.create_task(read_to_the_end(client)) for client in clients]
        writer.transport.pause_reading()
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 5
    assert await asyncio.gather(*codes) == [1001] * 10
    writer.transport.abort()


async def test_a_full_house(settings: Settings) -> None:
    """Whoever finds no place is told to come again, and finds one that was left."""
    few = settings.model_copy(update={"events": EventSettings(max_connections=2)})
    async with served(few) as (address, app):
        first, second = [await connect(f"ws://{address}/ws") for _ in range(2)]
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{address}/ws")
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        AnswerChecker().validate("Problem", json.loads(response.body or b""))
        sent: list[Message] = []
        scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}
        await app(scope, _connect, _keep(sent))
        assert sent == [{"type": "websocket.close", "code": 1013}]
        await first.close()
        end = time.monotonic() + 5
        while app.hub.count() > 1:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        async with connect(f"ws://{address}/ws"):
            assert app.hub.count() == 2
        await second.close()


async def _connect() -> Message:
    return {"type": "websocket.connect"}


def _keep(sent: list[Message]) -> Any:
    async def send(message: Message) -> None:
        sent.append(message)

    return send
