"""kill -9 of a server process at an exact point of a POST."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from staff import at_work, ended, until

from taskqueue_core.broker import Broker, with_url
from taskqueue_core.config import child_environ
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState
from taskqueue_core.verification.proxy import Mode, Proxy, Streams, dialer, through

pytestmark = pytest.mark.anyio


@handler("nap", timeout=60)
async def nap(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Do nothing."""


class Trap:
    """A proxy before the broker that can catch a submission, and decides what passes of it."""

    def __init__(self, broker: Broker) -> None:
        self._dial = dialer(broker.settings.redis.url)
        self._mark = broker.scripts._hashes["submit"].encode()
        self._act: Callable[[bytes], bytes] | None = None
        self._caught = asyncio.Event()
        self.proxy = Proxy(self._connect)

    async def catch(self, act: Callable[[bytes], bytes]) -> None:
        """Wait for the next submission; ``act`` gets its bytes and returns those that pass."""
        self._act = act
        async with asyncio.timeout(15):
            await self._caught.wait()

    async def _connect(self) -> Streams:
        assert self._dial is not None
        reader, writer = await self._dial()
        write = writer.write
        writer.write = lambda data: write(self._passed(bytes(data)))  # type: ignore[method-assign]
        return reader, writer

    def _passed(self, data: bytes) -> bytes:
        act = self._act if self._mark in data else None
        if act is None:
            return data
        self._act = None
        self._caught.set()
        return act(data)


@pytest.fixture
async def trap(fragile_broker: Broker) -> AsyncIterator[Trap]:
    """Yield a trap before the test's broker."""
    trap = Trap(fragile_broker)
    await trap.proxy.start()
    yield trap
    await trap.proxy.close()


class Serving:
    """Server processes one after the other on one listening socket, as under a supervisor."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listener: socket.socket = bind_listener("127.0.0.1", 0)
        host, port = self._listener.getsockname()[:2]
        self.url = f"http://{host}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start a process and wait until it answers."""
        self._process = self._spawn(self._listener.fileno())
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            assert (await http.get("/admin/health")).status_code == 200

    def _spawn(self, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "taskqueue_server.serving", str(descriptor)],
            env=child_environ(self._settings, os.environ),
            pass_fds=[descriptor],
        )

    def kill(self) -> None:
        """End the process at once; nobody answers until the next one has started."""
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        self._listener.close()


@pytest.fixture
def serving(fragile: Settings, trap: Trap) -> Iterator[Serving]:
    """Yield servers whose connections to the broker lead through the trap."""
    serving = Serving(with_url(fragile, through(fragile.redis.url, trap.proxy.port)))
    yield serving
    serving.close()


async def post(url: str) -> str | None:
    """Submit a task over a connection of its own; its id, or ``None`` without an answer."""
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        try:
            answer = await http.post("/api/v1/tasks", json={"type": "nap"})
        except httpx.TransportError:
            return None
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def killed_before_it_is_stored(serving: Serving, trap: Trap, broker: Broker) -> str | None:
    """Kill while the submission is on its way to the broker, which never gets it."""
    posting = asyncio.create_task(post(serving.url))
    await trap.catch(lambda _: b"")
    serving.kill()
    return await posting


async def killed_before_it_is_known(serving: Serving, trap: Trap, broker: Broker) -> str | None:
    """Kill while the task is stored, but the server has not heard of it."""

    def lose_the_reply(submission: bytes) -> bytes:
        trap.proxy.switch(Mode.DEAF)
        return submission

    posting = asyncio.create_task(post(serving.url))
    await trap.catch(lose_the_reply)

    async def is_stored() -> bool:
        return (await broker.inspection.queue_stats()).backlog == 1

    await until(is_stored, "the task")
    serving.kill()
    answer = await posting
    trap.proxy.switch(Mode.OPEN)
    return answer


async def killed_after_its_answer(serving: Serving, trap: Trap, broker: Broker) -> str | None:
    """Kill at the moment the client has its 201."""
    answer = await post(serving.url)
    serving.kill()
    return answer


@pytest.mark.parametrize(
    ("killed", "is_answered", "stored"),
    [
        (killed_before_it_is_stored, False, 0),
        (killed_before_it_is_known, False, 1),
        (killed_after_its_answer, True, 1),
    ],
)
async def test_a_server_killed_in_the_middle_of_a_post(
    serving: Serving,
    trap: Trap,
    fragile_broker: Broker,
    fragile: Settings,
    killed: Any,
    is_answered: bool,
    stored: int,
) -> None:
    """A task is there whole or not at all; who got 201 finds it, who got nothing may repeat."""
    await serving.start()
    # The server's scripts are known, so that a submission is one command.
    first = await post(serving.url)
    assert first
    async with at_work(fragile, nap):
        await ended(fragile_broker, first)
    answer = await killed(serving, trap, fragile_broker)
    assert (answer is not None) == is_answered
    assert (await fragile_broker.inspection.queue_stats()).backlog == stored
    assert await fragile_broker.inspection.audit() == []
    await serving.start()
    again = await post(serving.url)
    assert again
    assert (await fragile_broker.inspection.queue_stats()).backlog == stored + 1
    async with at_work(fragile, nap), httpx.AsyncClient(base_url=serving.url) as http:
        for task_id in filter(None, (answer, again)):
            task = await ended(fragile_broker, task_id)
            assert (task.state, task.deliveries) == (TaskState.COMPLETED, 1)
            assert (await http.get(f"/api/v1/tasks/{task_id}")).json()["state"] == "completed"

        async def is_done() -> bool:
            return (await fragile_broker.inspection.queue_stats()).backlog == 0

        await until(is_done, "the end of the task nobody heard of")
