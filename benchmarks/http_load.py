"""Requests per second through one server process, with a client that costs little itself.

Every connection is kept alive and has one request under way. The client shares the machine with
the server and the broker; its own share of the processor is reported beside the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import rig
from machine import cpu_seconds
from report import Report, percentile
from rig import BenchError, Rig

from taskqueue_core.broker import Broker

_BODY = b'{"type":"echo","payload":{"message":"Hello, World!"}}'
_POST = (
    b"POST /api/v1/tasks HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
_GET = b"GET /api/v1/tasks/%b HTTP/1.1\r\nHost: bench\r\n\r\n"


@dataclass(slots=True)
class Load:
    """What the connections of one measurement have in common."""

    requests: Iterator[bytes]
    expected: bytes
    is_over: bool = False
    waits_ms: list[float] = field(default_factory=list)
    last_bodies: list[bytes] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request goes out when the answer before it is complete."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._send(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; before its time that is an error."""
        if not self.ended.done():
            self.ended.set_exception(BenchError(f"the server closed a connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; a complete one is followed by the next request."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        self._load.waits_ms.append((time.perf_counter() - self._sent_at) * 1000)
        assert self._transport is not None
        if head[9:12] != self._load.expected:
            text = self._received[:500].decode(errors="replace")
            self.ended.set_exception(BenchError(f"unexpected answer: {text}"))
            self._transport.close()
        elif self._load.is_over:
            self._load.last_bodies.append(body)
            self.ended.set_result(None)
            self._transport.close()
        else:
            self._received = b""
            self._send(self._transport)

    def _send(self, transport: asyncio.Transport) -> None:
        self._sent_at = time.perf_counter()
        transport.write(next(self._load.requests))


def _length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(b"content-length:") + 15
    return int(lowered[start:].partition(b"\r\n")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server under load, and whose processor time is counted."""

    port: int
    pid: int
    broker: Broker

    async def cpu(self) -> tuple[float, float, float]:
        """Return the seconds of processor of server, broker and this client so far."""
        broker = await rig.broker_cpu_seconds(self.broker)
        return cpu_seconds(self.pid), broker, cpu_seconds(os.getpid())


async def measure_http(
    bench: Rig, report: Report, *, seconds: float, connections: Iterable[int]
) -> None:
    """Measure POST and GET at each number of connections."""
    settings = bench.settings("http")
    async with bench.broker(settings) as broker:
        with bench.server(settings) as (pid, port):
            target = Target(port=port, pid=pid, broker=broker)
            await _run(port, Load(itertools.repeat(_POST), b"201"), 4, min(0.5, seconds))
            for count in connections:
                report.progress(f"HTTP with {count} connections, {seconds:g} s each way")
                load = Load(itertools.repeat(_POST), b"201")
                await _measure(report, f"POST, {count} connections", load, target, count, seconds)
                ids = [json.loads(body)["id"].encode() for body in load.last_bodies]
                load = Load(itertools.cycle([_GET % task_id for task_id in ids]), b"200")
                await _measure(report, f"GET, {count} connections", load, target, count, seconds)


async def _measure(
    report: Report, name: str, load: Load, target: Target, count: int, seconds: float
) -> None:
    before = await target.cpu()
    elapsed = await _run(target.port, load, count, seconds)
    spent = [after - start for start, after in zip(before, await target.cpu(), strict=True)]
    done = len(load.waits_ms)
    values = {
        ("speed", "requests/s"): [done / elapsed],
        ("p50", "ms"): [percentile(load.waits_ms, 50)],
        ("p99", "ms"): [percentile(load.waits_ms, 99)],
    }
    for whose, cpu in zip(("server", "broker", "client"), spent, strict=True):
        values[f"{whose} CPU", "us/request"] = [cpu / done * 1e6]
    report.add("HTTP through one server process, authentication off (the default)", name, values)


async def _run(port: int, load: Load, count: int, seconds: float) -> float:
    """Keep ``count`` connections busy; return how long it took in seconds."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
        for _ in range(count)
    ]
    ends = asyncio.gather(*(connection.ended for _, connection in opened))
    await asyncio.wait([ends], timeout=seconds)
    load.is_over = True
    try:
        async with asyncio.timeout(rig.PATIENCE_SECONDS):
            await ends
    except TimeoutError:
        raise BenchError("the server did not answer all requests") from None
    return time.perf_counter() - started
