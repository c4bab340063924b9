"""Bodies that are made to hurt, against a process: each is refused, and costs no memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hosting import Hosted, converse, server_process, statuses

from taskqueue_core.broker import Broker
from taskqueue_core.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

MIB = 2**20
#: Other clients wait while one body is looked at: the longest takes a tenth of this alone.
BUSY_SECONDS = 2.0
_HEAD = b"POST /api/v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
_HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_PAYLOAD = b'{"type":"echo","payload":%s}'


def declared(body: bytes) -> bytes:
    """Return a request with this body, the last of its connection."""
    return _HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def keys(number: int, *, same: bool = False) -> bytes:
    """Return an object with so many keys."""
    return b"{" + b",".join(b'"%d":0' % (n * (not same)) for n in range(number)) + b"}"


#: Name -> (request, status).
HOSTILE = {
    "large, declared": (declared(b" " * 4 * MIB), 413),
    "large, one chunk": (_CHUNKED + b"%x\r\n" % (4 * MIB) + b" " * 4 * MIB + b"\r\n0\r\n\r\n", 413),
    "large, chunks of a byte": (_CHUNKED + b"1\r\n \r\n" * (MIB + 1) + b"0\r\n\r\n", 413),
    "large, declared only": (_HEAD + b"Content-Length: 99999999999999\r\n\r\n", 413),
    "brackets": (declared(b"[" * MIB), 400),
    "deep": (declared(_PAYLOAD % (b'{"a":' * 100_000 + b"0" + b"}" * 100_000)), 400),
    "a deep array": (declared(_PAYLOAD % (b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}")), 400),
    "a key a hundred thousand times": (declared(_PAYLOAD % keys(100_000, same=True)), 400),
    "a hundred thousand unknown fields": (declared(keys(80_000)), 400),
    "metadata without end": (declared(b'{"type":"echo","metadata":' + keys(80_000) + b"}"), 400),
    "a long number": (declared(_PAYLOAD % (b'{"a":' + b"9" * 900_000 + b"}")), 400),
    "a long exponent": (declared(_PAYLOAD % (b'{"a":1e' + b"9" * 900_000 + b"}")), 400),
    "an endless string": (declared(_PAYLOAD % (b'{"a":"' + b"x" * 900_000)), 400),
    "half characters": (declared(_PAYLOAD % (b'{"a":"' + b"\\ud800" * 150_000 + b'"}')), 400),
    "a long type": (declared(b'{"type":"' + b"x" * 900_000 + b'"}'), 400),
    "a payload of zeros": (declared(_PAYLOAD % (b"[" + b"0," * 400_000 + b"0]")), 400),
    "no tasks without end": (
        declared(b'{"tasks":[' + b"0," * 400_000 + b"0]}").replace(b"/tasks", b"/tasks/batch", 1),
        400,
    ),
    "tasks without end": (
        declared(b'{"tasks":[' + b"{}," * 300_000 + b"{}]}").replace(b"/tasks", b"/tasks/batch", 1),
        400,
    ),
}


async def largest(server: Hosted) -> int:
    """Send every body; return the most memory that the process had after one of them."""
    sizes = []
    for name, (request, status) in HOSTILE.items():
        began = server.busy_seconds()
        answers = await asyncio.to_thread(converse, server.address, request)
        assert statuses(answers) == [status], name
        assert server.busy_seconds() - began < BUSY_SECONDS, name
        assert len(answers) < 2_000, name
        sizes.append(server.resident_bytes())
    return max(sizes)


async def test_hostile_bodies(settings: Settings, broker: Broker, tmp_path: Path) -> None:
    """All of them, again and again: 4xx each time, soon, and the process does not grow."""
    with (tmp_path / "log").open("wb") as log:
        async with server_process(settings, log) as server:
            # What it takes to start is no client's doing.
            assert statuses(await asyncio.to_thread(converse, server.address, _HEALTH)) == [200]
            # Two rounds show what such bodies take for once.
            known = [await largest(server) for _ in range(2)]
            assert await largest(server) - max(known) < 10 * MIB
    assert (await broker.inspection.queue_stats()).backlog == 0


async def test_as_many_keys_as_fit(settings: Settings, broker: Broker, tmp_path: Path) -> None:
    """What is allowed may be large: it is stored as it came."""
    with (tmp_path / "log").open("wb") as log:
        async with server_process(settings, log) as server:
            request = declared(_PAYLOAD % keys(90_000))
            answers = await asyncio.to_thread(converse, server.address, request)
    assert statuses(answers) == [201]
    assert (await broker.inspection.queue_stats()).backlog == 1
