"""Requests whose end two readers could see in two places: one answer at most, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hosting import converse, dial, hosted, read_all, read_until, server_process, statuses

from taskqueue_core.broker import Broker
from taskqueue_core.settings import Settings
from taskqueue_server.http_protocol import MAX_WAITING

pytestmark = pytest.mark.anyio

_HIDDEN = b"GET /admin/workers HTTP/1.1\r\nHost: a\r\n\r\n"
_GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
_POST = b"POST /api/v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
_BODY = b'{"type":"echo"}'
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: %s\r\n"
_WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n" + _UPGRADE % b"websocket"
)

REFUSALS = {*range(400, 500), 505}

#: Each is answered with 4xx or 505 and closed, or closed.
CORPUS = {
    "length and chunks": _POST + b"Content-Length: 4\r\n" + _CHUNKED + b"\r\n0\r\n\r\n" + _HIDDEN,
    "chunks and length": _POST + _CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "two lengths": _POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + _HIDDEN,
    "the same length twice": _POST + b"Content-Length: 0\r\n" * 2 + b"\r\n" + _HIDDEN,
    "a list of lengths": _POST + b"Content-Length: 0, 0\r\n\r\n" + _HIDDEN,
    "length +0": _POST + b"Content-Length: +0\r\n\r\n" + _HIDDEN,
    "length -1": _POST + b"Content-Length: -1\r\n\r\n" + _HIDDEN,
    "length 0x0": _POST + b"Content-Length: 0x0\r\n\r\n" + _HIDDEN,
    "length 1 2": _POST + b"Content-Length: 1 2\r\n\r\n" + _HIDDEN,
    "endless length": _POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + _HIDDEN,
    "no length": _POST + b"Content-Length:\r\n\r\n" + _HIDDEN,
    "chunks last but one": _POST + b"Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "almost chunked": _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "chunked\\v": _POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "encoding, then another": _POST + _CHUNKED + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "space before the colon": _POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "chunk size with 0x": _POST + _CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "negative chunk": _POST + _CHUNKED + b"\r\n-1\r\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "huge chunk size": _POST + _CHUNKED + b"\r\n" + b"f" * 17 + b"\r\n" + _HIDDEN,
    "no chunk size": _POST + _CHUNKED + b"\r\n\r\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "a longer chunk": _POST + _CHUNKED + b"\r\n2\r\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "chunk size and LF": _POST + _CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "chunk and LF": _POST + _CHUNKED + b"\r\n5\r\nhello\n0\r\n\r\n" + _HIDDEN,
    "spaces after a chunk size": _POST + _CHUNKED + b"\r\n5  \r\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "LF in a chunk extension": _POST + _CHUNKED + b"\r\n5;a\nb\r\nhello\r\n0\r\n\r\n" + _HIDDEN,
    "LF for CRLF": _GET.replace(b"\r\n", b"\n") + b"\n" + _HIDDEN,
    "LF between headers": b"GET /health HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "LF at the end": b"GET /health HTTP/1.1\r\nHost: a\r\n\n" + _HIDDEN,
    "CR alone": b"GET /health HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "folded header": _GET + b"X-A: b\r\n c\r\n\r\n",
    "folded encoding": _POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "space before a header": b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n",
    "NUL in a name": _GET + b"X-\x00A: b\r\n\r\n",
    "NUL in a value": _GET + b"X-A: b\x00c\r\n\r\n",
    "NUL in the path": b"GET /health\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header without a name": _GET + b": b\r\n\r\n",
    "a header without a colon": _GET + b"X-A\r\n\r\n",
    "brackets in a name": _GET + b"X[A]: b\r\n\r\n",
    "space in the path": b"GET /health /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab for space": b"GET\t/health\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /health\r\n\r\n" + _HIDDEN,
    "HTTP/0.9": b"GET /health HTTP/0.9\r\n\r\n" + _HIDDEN,
    "HTTP/1.2": b"GET /health HTTP/1.2\r\nHost: a\r\n\r\n" + _HIDDEN,
    "HTTP/2.0": b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n" + _HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/1.1": b"GET /health http/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0 in chunks": _POST.replace(b"1.1", b"1.0") + _CHUNKED + b"\r\n0\r\n\r\n" + _HIDDEN,
    "an unknown method": b"NONSENSE /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n" + _HIDDEN,
    "two hosts": _GET + b"Host: b\r\n\r\n" + _HIDDEN,
    "the same host twice": _GET + b"X: b\r\nhost: a\r\n\r\n" + _HIDDEN,
    "two hosts in HTTP/1.0": _GET.replace(b"1.1", b"1.0") + b"Host: b\r\n\r\n",
    "a handshake without a host": _WEBSOCKET.replace(b"Host: a\r\n", b"") + b"\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + _HIDDEN,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "nothing but NUL": bytes(512),
    "umlauts": "GET /ü HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "a handshake with a body": _WEBSOCKET + b"Content-Length: 42\r\n\r\n" + _HIDDEN + b"\r\n",
    "a handshake in chunks": _WEBSOCKET + _CHUNKED + b"\r\n1\r\na\r\n0\r\n\r\n" + _HIDDEN,
}

#: Odd, but clear: exactly one answer with this status, and the connection is closed.
ODD = {
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n" + _HIDDEN, 200),
    "HTTP/1.0 that wants to stay": (
        b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + _HIDDEN,
        200,
    ),
    "close, and more": (_GET + b"Connection: close\r\n\r\n" + _HIDDEN, 200),
    "an upgrade to HTTP/2": (_GET + _UPGRADE % b"h2c" + b"\r\n" + _HIDDEN, 200),
    "a target that is a URL": (
        b"GET http://a/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        200,
    ),
    "empty lines before": (b"\r\n\r\n" + _GET + b"Connection: close\r\n\r\n", 200),
    "chunk extensions": (
        _POST + _CHUNKED + b"Connection: close\r\n\r\nf;a=b\r\n" + _BODY + b"\r\n0\r\n\r\n",
        201,
    ),
}


@pytest.fixture
async def address(settings: Settings, broker: Broker) -> AsyncIterator[str]:
    """Yield host:port of a server."""
    async with hosted(settings) as (address, _):
        yield address


async def test_what_is_ambiguous_is_refused(
    settings: Settings, broker: Broker, tmp_path: Path
) -> None:
    """Nothing of the corpus gets two answers, or one that is none; the server lives on."""
    path, wrong = tmp_path / "log", {}
    with path.open("wb") as log:
        async with server_process(settings, log) as server:
            for name, request in CORPUS.items():
                answers = await asyncio.to_thread(converse, server.address, request)
                found = statuses(answers)
                if len(found) > 1 or set(found) - REFUSALS:
                    wrong[name] = found
            alive = await asyncio.to_thread(
                converse, server.address, _GET + b"Connection: close\r\n\r\n"
            )
            assert server.process.poll() is None
    assert wrong == {}
    assert statuses(alive) == [200]
    assert (await broker.inspection.queue_stats()).backlog == 0
    # Whoever sends such things does not fill the log with them.
    lines = [line for line in path.read_text().splitlines() if "connection refused" in line]
    assert 0 < len(lines) <= 10
    assert len(path.read_text().splitlines()) < 20


@pytest.mark.parametrize(("request_bytes", "status"), ODD.values(), ids=ODD.keys())
async def test_what_is_odd_is_answered_once(
    address: str, request_bytes: bytes, status: int
) -> None:
    """What comes behind the last request is none."""
    answers = await asyncio.to_thread(converse, address, request_bytes)
    assert statuses(answers) == [status]


@pytest.mark.parametrize("rubbish", [b"\x00\x01\x02", b"GET /\x00", b"POST / HTTP/9.9\r\n\r\n"])
async def test_a_refusal_is_no_answer_to_something_else(
    address: str, broker: Broker, rubbish: bytes
) -> None:
    """Requests before the one at fault are answered, in order, and the connection ends there."""
    task = _POST + b"Content-Length: 15\r\n\r\n" + _BODY
    answers = await asyncio.to_thread(converse, address, task + _GET + b"\r\n" + task + rubbish)
    assert statuses(answers) == [201, 200, 201]
    assert b"connection: close" in answers.rpartition(b"HTTP/1.1 ")[2]
    assert (await broker.inspection.queue_stats()).backlog == 2


async def test_a_body_at_fault_behind_other_requests(address: str, broker: Broker) -> None:
    """It is dropped; what came before it is answered, and nothing else."""
    bad = _POST + _CHUNKED + b"\r\n5\r\nhello!!\r\n"
    answers = await asyncio.to_thread(converse, address, _GET + b"\r\n" + bad + _HIDDEN)
    assert statuses(answers) == [200]
    assert (await broker.inspection.queue_stats()).backlog == 0


async def test_a_body_that_becomes_faulty(address: str, broker: Broker) -> None:
    """It is answered with 400 though the request has begun, and makes no task."""
    parts = (_POST + _CHUNKED + b"\r\n", b"f\r\n" + _BODY + b"\r\n", b"nonsense\r\n")
    answers = await asyncio.to_thread(converse, address, *parts)
    assert statuses(answers) == [400]
    assert b'"urn:taskqueue:problem:malformed-request"' in answers
    assert b"x-content-type-options: nosniff" in answers
    assert (await broker.inspection.queue_stats()).backlog == 0


async def test_a_fault_behind_an_early_answer(address: str) -> None:
    """A request is answered once, though the rest of its body turns out to be none."""

    def talk() -> list[int]:
        with dial(address) as client:
            client.sendall(_POST.replace(b"tasks", b"nothing") + _CHUNKED + b"\r\n")
            first = read_until(client, b"}")
            client.sendall(b"nonsense\r\n")
            return statuses(first + read_all(client))

    assert await asyncio.to_thread(talk) == [404]


async def test_trailers_are_no_headers(address: str) -> None:
    """What comes behind the body says nothing about the request: it makes two tasks, not one."""
    request = _POST + _CHUNKED + b"\r\nf\r\n" + _BODY + b"\r\n0\r\nIdempotency-Key: a\r\n"
    request += b"Host: b\r\n\r\n"
    last = _GET + b"Connection: close\r\n\r\n"
    answers = await asyncio.to_thread(converse, address, request + request + last)
    assert statuses(answers) == [201, 201, 200]


async def test_many_requests_at_once(address: str) -> None:
    """So many wait for their turn; with more, those that were taken are the last."""
    answers = await asyncio.to_thread(converse, address, (_GET + b"\r\n") * 5_000)
    found = statuses(answers)
    assert MAX_WAITING < len(found) < 1_000
    assert set(found) == {200}


async def test_a_handshake_waits_for_earlier_answers(address: str) -> None:
    """One that does not wait is none: its 101 could come before the other answer."""
    request = _GET + b"\r\n" + _WEBSOCKET + b"\r\n"
    assert statuses(await asyncio.to_thread(converse, address, request)) == [200]


async def test_upgrades_still_work(address: str) -> None:
    """On a connection that has served a request before, too."""

    def talk() -> list[int]:
        with dial(address) as client:
            client.sendall(_GET + b"\r\n")
            first = read_until(client, b"}")
            client.sendall(_WEBSOCKET + b"\r\n")
            second = read_until(client, b"\r\n\r\n")
            client.sendall(b"\x88\x80abcd")
            return statuses(first) + statuses(second + read_all(client))

    assert await asyncio.to_thread(talk) == [200, 101]
