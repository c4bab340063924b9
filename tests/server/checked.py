"""A client of an application in this process, whose every answer is checked."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from answers import AnswerChecker

from taskqueue_server.app import Application

checker = functools.cache(AnswerChecker)


@asynccontextmanager
async def serve(application: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the running application; its answers are checked."""
    transport = httpx.ASGITransport(app=application)
    hooks = {"response": [checker()]}
    async with (
        application.running(),
        httpx.AsyncClient(transport=transport, base_url="http://test", event_hooks=hooks) as http,
    ):
        yield http


async def ready(client: httpx.AsyncClient) -> None:
    """Return once the server says that it can work: that its broker is prepared."""
    end = time.monotonic() + 5
    while (answer := await client.get("/health/ready")).status_code != 200:
        assert time.monotonic() < end, answer.text
        await asyncio.sleep(0.005)
