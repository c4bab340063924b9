"""A TCP proxy before the broker that misbehaves on demand.

Every process of the fleet has a proxy of its own, so a fault can be one process's or everybody's.
It knows nothing of Redis: it passes bytes on, late, one way only, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from taskqueue_core.settings import parse_redis_url

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

#: Closes a connection with RST instead of FIN.
_LINGER_NONE: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = 65_536


class Mode(StrEnum):
    """What happens to the bytes."""

    OPEN = "open"
    #: Connections are refused; those there were are closed.
    CUT = "cut"
    #: Half-open: nothing passes in either direction, everything passes later.
    STALL = "stall"
    #: Requests pass, replies are lost.
    DEAF = "drop replies"
    #: Every piece takes ``delay_seconds``.
    SLOW = "slow"


class Proxy:
    """Listens on a loopback port and connects each client to what ``dial`` reaches."""

    def __init__(self, dial: Callable[[], Awaitable[Streams]]) -> None:
        self.port = 0
        self.mode = Mode.OPEN
        self.delay_seconds = 0.0
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()

    async def start(self) -> None:
        """Listen; ``port`` is known from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End every connection and listen no more."""
        if self._server:
            self._server.close()
        self.reset()
        self._is_open.set()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def switch(self, mode: Mode, *, delay_seconds: float = 0.0) -> None:
        """Treat bytes so from now on.

        A connection that has lost replies is closed at the end of ``DEAF``: what it would say
        next answers another question.
        """
        self.mode, self.delay_seconds = mode, delay_seconds
        if mode is Mode.STALL:
            self._is_open.clear()
        else:
            self._is_open.set()
        for link in list(self._links):
            if mode is Mode.CUT or (link.has_lost and mode is not Mode.DEAF):
                link.abort()

    def reset(self) -> int:
        """Break every connection that there is with RST; the count."""
        links = list(self._links)
        for link in links:
            link.abort()
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        if task := asyncio.current_task():
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            await self._connect(link, reader, writer)
        except OSError:
            pass  # either side is gone: the other one learns it below
        finally:
            link.abort()
            self._links.discard(link)

    async def _connect(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._is_open.wait()
        if self.mode is Mode.CUT or link.is_over:
            return
        far_reader, far_writer = await self._dial()
        link.add(far_writer)
        pumps = [
            asyncio.create_task(self._pump(link, reader, far_writer, is_reply=False)),
            asyncio.create_task(self._pump(link, far_reader, writer, is_reply=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        link: _Link,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        *,
        is_reply: bool,
    ) -> None:
        while data := await source.read(_CHUNK):
            await self._is_open.wait()
            if self.mode is Mode.SLOW:
                await asyncio.sleep(self.delay_seconds)
            if is_reply and self.mode is Mode.DEAF:
                link.has_lost = True
                continue
            target.write(data)
            await target.drain()


class _Link:
    """The two sockets of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.has_lost = False
        self.is_over = False
        self._writers = [writer]

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.is_over:
            self.abort()

    def abort(self) -> None:
        self.is_over = True
        for writer in self._writers:
            end: socket.socket | None = writer.get_extra_info("socket")
            # On a unix socket, or one that is closed already, there is nothing to set.
            with contextlib.suppress(OSError):
                if end is not None and end.fileno() >= 0:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            writer.transport.abort()


def dialer(url: str) -> Callable[[], Awaitable[Streams]] | None:
    """Return what connects to a broker; ``None`` where the URL leads to more than one server."""
    parsed = parse_redis_url(url)
    if parsed.kind:
        return None
    parts = urlsplit(parsed.plain)
    if parts.scheme == "unix":
        return lambda: asyncio.open_unix_connection(unquote(parts.path))
    secure = _tls(parse_qs(parts.query)) if parts.scheme == "rediss" else None
    return lambda: asyncio.open_connection(parts.hostname, parts.port, ssl=secure)


def _tls(options: dict[str, list[str]]) -> ssl.SSLContext:
    def option(name: str) -> str | None:
        return options[f"ssl_{name}"][0] if f"ssl_{name}" in options else None

    context = ssl.create_default_context(cafile=option("ca_certs"))
    if certificate := option("certfile"):
        context.load_cert_chain(certificate, option("keyfile"))
    is_unchecked = option("cert_reqs") == "none"
    if is_unchecked or option("check_hostname") in {"false", "False", "0", "no"}:
        context.check_hostname = False
    if is_unchecked:
        context.verify_mode = ssl.CERT_NONE
    return context


def through(url: str, port: int) -> str:
    """Return a broker's URL with the proxy at ``port`` in the broker's place."""
    parts = urlsplit(parse_redis_url(url).plain)
    user, at, _ = parts.netloc.rpartition("@")
    options = parse_qs(parts.query)
    path = parts.path if parts.scheme != "unix" else f"/{options.get('db', ['0'])[0]}"
    return urlunsplit(("redis", f"{user}{at}127.0.0.1:{port}", path, "", ""))
