"""Servers behind real sockets, in this process or in one of their own, and clients that send bytes.

The clients block: one that is reset reads first what came before, which a stream of asyncio drops.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from taskqueue_core.broker import open_broker
from taskqueue_core.config import child_environ
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import ServerSettings, Settings
from taskqueue_server.app import create_app
from taskqueue_server.serving import Server

#: Longer than any deadline that a test sets.
PATIENCE_SECONDS: Final = 20.0
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def with_server(settings: Settings, **changes: object) -> Settings:
    """Return settings with other limits of connections."""
    server = ServerSettings.model_validate({**settings.server.model_dump(), **changes})
    return settings.model_copy(update={"server": server})


@asynccontextmanager
async def hosted(settings: Settings) -> AsyncIterator[tuple[str, Server]]:
    """Yield host:port of a server in this process, and the server; its network takes little."""
    listener = bind_listener("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    host, port = listener.getsockname()[:2]
    server = Server(
        create_app(settings, broker=open_broker(settings), report_seconds=3_600), settings
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"{host}:{port}", server
    finally:
        server.should_exit = True
        await running
        listener.close()


@dataclass(frozen=True, slots=True)
class Hosted:
    """A server in a process of its own."""

    address: str
    process: subprocess.Popen[bytes]

    def resident_bytes(self) -> int:
        """Return how much memory it has."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def busy_seconds(self) -> float:
        """Return for how long it has computed."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def server_process(settings: Settings, log: IO[bytes]) -> AsyncIterator[Hosted]:
    """Yield a server process with everything it logs in ``log``."""
    listener = bind_listener("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    descriptor = listener.fileno()
    server = subprocess.Popen(  # noqa: ASYNC220 -- forks at once
        [sys.executable, "-m", "taskqueue_server.serving", str(descriptor)],
        env=child_environ(settings, os.environ),
        pass_fds=[descriptor],
        stderr=log,
        stdout=log,
    )
    try:
        yield Hosted(f"{host}:{port}", server)
        server.terminate()
        await asyncio.to_thread(server.wait, PATIENCE_SECONDS)
    finally:
        server.kill()
        server.wait()
        listener.close()


def dial(address: str, *, receive_bytes: int = 0) -> socket.socket:
    """Return a connection, which takes little in advance if so asked."""
    host, _, port = address.partition(":")
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(PATIENCE_SECONDS)
    client.connect((host, int(port)))
    return client


def read_all(client: socket.socket) -> bytes:
    """Return everything up to the end of the connection, whichever way it ends."""
    chunks = []
    try:
        while chunk := client.recv(65_536):
            chunks.append(chunk)
    except ConnectionError:
        pass
    return b"".join(chunks)


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Return what comes up to an end that is known."""
    found = b""
    while not found.endswith(end):
        chunk = client.recv(65_536)
        assert chunk, found
        found += chunk
    return found


def send_all(client: socket.socket, *parts: bytes) -> None:
    """Send bytes; who is not listened to any more has sent enough."""
    try:
        for part in parts:
            client.sendall(part)
    except ConnectionError:
        pass


def converse(address: str, *parts: bytes) -> bytes:
    """Send bytes over a connection of their own; return all that comes until it is closed."""
    with dial(address) as client:
        send_all(client, *parts)
        return read_all(client)


def statuses(answers: bytes) -> list[int]:
    """Return the status of each answer."""
    return [int(status) for status in _STATUS.findall(answers)]
