"""The application over a real broker: in process for most tests, behind uvicorn for sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from checked import serve
from fleet import FakeWorker

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.serving import Server


@pytest.fixture
def serving() -> Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """Return a way to serve with settings of the test's own."""
    return lambda settings: serve(create_app(settings))


@pytest.fixture
async def app(settings: Settings, broker: Broker) -> Application:
    """Return an application with a broker of its own on the test's namespace."""
    return create_app(settings, broker=open_broker(settings), report_seconds=0.05)


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the running application."""
    async with serve(app) as http:
        yield http


@pytest.fixture
async def address(app: Application, settings: Settings) -> AsyncIterator[str]:
    """Yield host:port of the application behind a real uvicorn."""
    listener = bind_listener("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    server = Server(app, settings)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"{host}:{port}"
    server.should_exit = True
    await running
    listener.close()


@pytest.fixture
async def worker(broker: Broker) -> FakeWorker:
    """Return a registered worker that runs nothing by itself."""
    fake = FakeWorker(broker)
    await fake.register()
    return fake
