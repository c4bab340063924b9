"""The application over a real broker: in process for most tests, behind uvicorn for sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from checked import serve
from connexion.spec import Specification
from fleet import FakeWorker

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.serving import Server
from taskqueue_server.spec import load_contract


@pytest.fixture(scope="session", autouse=True)
def contract_read_once() -> Iterator[None]:
    """Read the contract once for all applications of a test process, which takes most of a start.

    That it is a valid document is what ``test_contract.py`` finds out, and servers that run as
    processes of their own.
    """
    text = json.dumps(load_contract())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taskqueue_server.app.load_contract", lambda: json.loads(text))
        patch.setattr(Specification, "_validate_spec", classmethod(lambda cls, spec: None))
        yield


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
