"""What surrounds every request: slow and broken bodies, errors of the server, real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.settings import ServerSettings, Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.guards import Guards
from taskqueue_server.messages import Message, Receive, Scope, Send
from taskqueue_server.origins import Origins

pytestmark = pytest.mark.anyio

_POST = b"POST /api/v1/tasks HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def app(settings: Settings, broker: Broker) -> Application:
    """Return an application that waits for little and not for long."""
    server = ServerSettings(read_timeout_seconds=0.1, max_body_bytes=1000)
    return create_app(
        settings.model_copy(update={"server": server}), broker=open_broker(broker.settings)
    )


async def talk(address: str, *parts: bytes) -> tuple[int, dict[str, Any], bool]:
    """Send raw bytes; return the status, the body, and whether the server closed afterwards."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for part in parts:
        writer.write(part)
        await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    body = json.loads(await reader.readexactly(int(headers[b"content-length"])))
    is_closed = headers.get(b"connection") == b"close" and await reader.read() == b""
    writer.close()
    return int(head.split()[1]), body, is_closed


@pytest.mark.parametrize(
    "parts",
    [
        (_POST + b"Content-Length: 20\r\n\r\n", b'{"type":'),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\n" + b'{"type":\r\n'),
        (_POST + b"Content-Length: 20\r\n\r\n",),
    ],
)
async def test_unfinished_body_is_given_up(address: str, parts: tuple[bytes, ...]) -> None:
    """A body that does not come holds nothing for longer than the read timeout."""
    status, body, is_closed = await talk(address, *parts)
    assert (status, is_closed) == (408, True)
    assert "0.1 s" in body["message"]


@pytest.mark.parametrize(
    "parts",
    [
        (_POST + b"Content-Length: 1001\r\n\r\n",),
        (_POST + b"Content-Length: 9999999999999999\r\n\r\n",),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n", b"3e9\r\n" + b" " * 1001 + b"\r\n"),
    ],
)
async def test_large_body_is_refused_unread(address: str, parts: tuple[bytes, ...]) -> None:
    """As soon as it is known to be too large the answer goes out and the connection closes."""
    status, body, is_closed = await talk(address, *parts)
    assert (status, is_closed) == (413, True)
    assert "1000 bytes" in body["message"]


async def test_chunked_body_is_read(address: str, broker: Broker) -> None:
    """A body without a declared length is as good as one with."""
    chunks = b'8\r\n{"type":\r\n7\r\n"echo"}\r\n0\r\n\r\n'
    status, task, _ = await talk(address, _POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert status == 201
    assert (await broker.inspection.get(task["id"])).type == "echo"


async def test_client_that_hangs_up_leaves_nothing(address: str, broker: Broker) -> None:
    """Half a submission is none, and the server goes on."""
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(_POST + b'Content-Length: 20\r\n\r\n{"type":')
    await writer.drain()
    writer.close()
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        assert (await client.get("/health")).status_code == 200
    assert (await broker.inspection.queue_stats()).backlog == 0


async def test_no_banner(address: str) -> None:
    """An answer does not say what serves it, in which version."""
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        for path in ("/health", "/nothing"):
            answer = await client.get(path)
            assert "server" not in answer.headers
            assert "x-powered-by" not in answer.headers


async def _fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("a secret of the inside")


async def _fail_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await _fail(scope, receive, send)


@pytest.fixture
def observed() -> list[tuple[str, str, int]]:
    """Return where the guards of a test report their answers."""
    return []


async def test_fault_of_the_server(observed: list[tuple[str, str, int]]) -> None:
    """The client learns an id and nothing else; the log has the rest under that id."""
    guards = Guards(
        _fail, lambda method, path, status, _: observed.append((method, path, status)), Origins()
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=guards), base_url="http://test"
    ) as client:
        with capture_logs() as lines:
            response = await client.get("/x", headers={"x-request-id": "abc"})
    assert (response.status_code, response.json()["error"]) == (500, "Internal Server Error")
    assert "secret" not in response.text
    assert [line["request_id"] for line in lines] == [response.json()["request_id"]] == ["abc"]
    assert observed == [("GET", "unmatched", 500)]


async def test_fault_after_the_answer_began() -> None:
    """There is no second answer: the server that runs us breaks the connection."""
    guards = Guards(_fail_late, lambda *_: None, Origins())
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with capture_logs(), pytest.raises(ZeroDivisionError):
        await guards(scope, receive, send)
    assert len(sent) == 1
