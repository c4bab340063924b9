"""The proxy before the broker does to connections what it is told, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from taskqueue_core.verification.proxy import Mode, Proxy, Streams, dialer, through

pytestmark = pytest.mark.anyio


class Clients:
    """Connections through a proxy, closed together."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Streams:
        """Open one more."""
        streams = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        self._writers.append(streams[1])
        return streams

    async def close(self) -> None:
        """Close all of them."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(one.wait_closed() for one in self._writers), return_exceptions=True)


@asynccontextmanager
async def proxied_echo() -> AsyncIterator[tuple[Proxy, Clients]]:
    """Run a proxy before a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", port))
    await proxy.start()
    clients = Clients(proxy)
    try:
        yield proxy, clients
    finally:
        await clients.close()
        await proxy.close()
        server.close()


async def ask(streams: Streams, text: bytes) -> bytes:
    """Send something and return what comes back within a moment."""
    reader, writer = streams
    writer.write(text)
    async with asyncio.timeout(2):
        return await reader.read(100)


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    """Tell whether nothing comes for a while."""
    try:
        async with asyncio.timeout(0.2):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def is_over(reader: asyncio.StreamReader) -> bool:
    """Tell whether a connection ends, in whatever way."""
    try:
        async with asyncio.timeout(2):
            return await reader.read(100) == b""
    except ConnectionError:
        return True


async def test_open() -> None:
    """Everything passes, both ways."""
    async with proxied_echo() as (_, clients):
        streams = await clients.connect()
        assert await ask(streams, b"hello") == b"hello"


async def test_cut_then_open() -> None:
    """Connections end and none can be made, until the end of the fault."""
    async with proxied_echo() as (proxy, clients):
        streams = await clients.connect()
        assert await ask(streams, b"hello") == b"hello"
        proxy.switch(Mode.CUT)
        assert await is_over(streams[0])
        refused = await clients.connect()
        assert await is_over(refused[0])
        proxy.switch(Mode.OPEN)
        assert await ask(await clients.connect(), b"x") == b"x"


async def test_reset_is_no_polite_goodbye() -> None:
    """A connection is broken with RST; a new one works."""
    async with proxied_echo() as (proxy, clients):
        streams = await clients.connect()
        assert await ask(streams, b"hello") == b"hello"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await streams[0].read(1)
        assert await ask(await clients.connect(), b"x") == b"x"


async def test_stall_loses_nothing() -> None:
    """Nothing passes, not even for new connections; later everything does."""
    async with proxied_echo() as (proxy, clients):
        streams = await clients.connect()
        assert await ask(streams, b"a") == b"a"
        proxy.switch(Mode.STALL)
        fresh = await clients.connect()
        for _, writer in (streams, fresh):
            writer.write(b"late")
        assert await hears_nothing(streams[0])
        assert await hears_nothing(fresh[0])
        proxy.switch(Mode.OPEN)
        for reader, _ in (streams, fresh):
            async with asyncio.timeout(2):
                assert await reader.read(100) == b"late"


async def test_dropped_replies_end_the_connection() -> None:
    """Replies are lost; a connection that lost one cannot be used again, another one can."""
    async with proxied_echo() as (proxy, clients):
        victim = await clients.connect()
        silent = await clients.connect()
        assert await ask(silent, b"a") == b"a"
        proxy.switch(Mode.DEAF)
        victim[1].write(b"lost")
        assert await hears_nothing(victim[0])
        proxy.switch(Mode.OPEN)
        assert await is_over(victim[0])
        assert await ask(silent, b"b") == b"b"


async def test_slow() -> None:
    """Every piece takes its time, there and back."""
    async with proxied_echo() as (proxy, clients):
        streams = await clients.connect()
        proxy.switch(Mode.SLOW, delay_seconds=0.1)
        began = asyncio.get_running_loop().time()
        assert await ask(streams, b"a") == b"a"
        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_end_of_the_server() -> None:
    """When the far side is gone, so is the near one."""
    proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", 1))
    await proxy.start()
    clients = Clients(proxy)
    reader, _ = await clients.connect()
    assert await is_over(reader)
    await clients.close()
    await proxy.close()


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("redis://h:7000/2", "redis://127.0.0.1:9/2"),
        ("redis://u:p%40@h/0", "redis://u:p%40@127.0.0.1:9/0"),
        ("rediss://:p@h:7000/1?ssl_cert_reqs=none", "redis://:p@127.0.0.1:9/1"),
        ("unix://:p@/run/x.sock?db=3", "redis://:p@127.0.0.1:9/3"),
    ],
)
def test_url_through_the_proxy(url: str, proxied: str) -> None:
    """Database and password stay, the place changes; TLS is spoken by the proxy."""
    assert through(url, 9) == proxied
    assert callable(dialer(url))


@pytest.mark.parametrize("url", ["redis+sentinel://h/mymaster", "redis+cluster://h:7000"])
def test_no_proxy_before_many_servers(url: str) -> None:
    """Their addresses come from the servers themselves: a proxy would be passed by."""
    assert dialer(url) is None
