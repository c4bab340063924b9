"""How much one client may send and how many may come: heads, headers, places, frames."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from answers import AnswerChecker
from credentials import KEYS, bearer, guarded, token
from hosting import converse, dial, hosted, read_all, send_all, statuses, with_server
from sockets import read_to_the_end
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskqueue_core.broker import Broker
from taskqueue_core.settings import EventSettings, ServerSettings, Settings
from taskqueue_server.connections import RESERVE, Connections, Place, Stage, Watched, address_of
from taskqueue_server.framing import MAX_FRAMES, EventsProtocol
from taskqueue_server.http_protocol import HEALTH_PATHS, MAX_HEAD_BYTES, MAX_HEADERS
from taskqueue_server.serving import Server
from taskqueue_server.spec import load_contract

pytestmark = pytest.mark.anyio

_GET = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
_STRAY = [b"a: b\r\n" * number for number in (MAX_HEADERS - 2, MAX_HEADERS - 1)]


@pytest.fixture
async def address(settings: Settings, broker: Broker) -> AsyncIterator[str]:
    """Yield host:port of a server."""
    async with hosted(settings) as (address, _):
        yield address


def filled(size: int) -> bytes:
    """Return a request whose head has so many bytes."""
    return _GET + b"X: " + b"x" * (size - len(_GET) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (filled(MAX_HEAD_BYTES), 200),
        (filled(MAX_HEAD_BYTES + 1), 431),
        (filled(1_000_000), 431),
        (_GET + _STRAY[0] + b"\r\n", 200),
        (_GET + _STRAY[1] + b"\r\n", 431),
        (_GET + b"a:\r\n" * 250_000, 431),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /?" + b"x" * 15_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        (b"\r\n" * 100_000, 414),
        (b"X" * 1_000_000, 400),
    ],
)
async def test_size_of_a_head(address: str, request_bytes: bytes, status: int) -> None:
    """Up to the limit a head is read, beyond it the answer names the limit and is the last."""
    answers = await asyncio.to_thread(converse, address, request_bytes)
    assert statuses(answers) == [status]
    assert (b"16384 bytes" in answers) == (status in (414, 431))
    if status >= 400:
        AnswerChecker().validate("Problem", json.loads(answers.partition(b"\r\n\r\n")[2]))


async def test_a_head_that_comes_in_pieces(address: str) -> None:
    """Its size is that of all pieces, and what came before it on the connection does not count."""

    def talk(*pieces: bytes) -> list[int]:
        with dial(address) as client:
            for piece in pieces:
                send_all(client, piece)
                time.sleep(0.02)
            return statuses(read_all(client))

    large = b"X: " + b"x" * 5_990 + b"\r\n"
    keep = b"GET /health HTTP/1.1\r\nHost: a\r\n"
    assert await asyncio.to_thread(talk, keep, large, large, large) == [431]
    twice = [keep, large, large, b"\r\n", keep, large, large, b"Connection: close\r\n\r\n"]
    assert await asyncio.to_thread(talk, *twice) == [200, 200]


async def test_trailers_are_counted(address: str) -> None:
    """A body may not be followed by trailers without end."""
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    answers = await asyncio.to_thread(converse, address, head, b"a: b\r\n" * 200)
    assert statuses(answers) == [431]


@pytest.mark.parametrize("endless", [b"2\r\n{}\r\n0\r\na: ", b"0\r\na"])
@pytest.mark.parametrize("path", [b"/api/v1/tasks", b"/nothing"])
async def test_size_of_what_is_no_body(address: str, path: bytes, endless: bytes) -> None:
    """A trailer without end is not read to its end, also behind an early answer."""
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" % path
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + endless
    began = time.monotonic()
    parts = (chunked, *[b"x" * 20_000] * 100)
    answers = await asyncio.to_thread(converse, address, *parts)
    assert statuses(answers) in ([431], [404], [])
    assert time.monotonic() - began < 5


async def test_large_chunks(address: str) -> None:
    """Bodies have a limit of their own: one in chunks of any size, behind another, is read."""
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n"
    body = b'{"type":"echo","payload":{"a":"%s"}}' % (b"x" * 100_000)
    whole = head + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    crumbs = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in body[:40_000])
    rest = b"%x\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(body) - 40_000, body[40_000:])
    requests = whole + head + b"\r\n" + crumbs + rest + whole + _GET + b"\r\n"
    answers = await asyncio.to_thread(converse, address, requests)
    assert statuses(answers) == [201, 201, 201, 200]


async def test_places_of_an_address(settings: Settings, broker: Broker) -> None:
    """One client cannot take the places of all; what it leaves is free again."""
    async with hosted(with_server(settings, max_connections_per_address=3)) as (address, server):
        for _ in range(4):
            await (await connect(f"ws://{address}/ws")).close()
        await empty(server)
        first, second = dial(address), dial(address)
        async with connect(f"ws://{address}/ws"):
            with capture_logs() as lines:
                answers = await asyncio.to_thread(converse, address)
            assert statuses(answers) == [503]
            assert b"server.maxconnectionsperaddress" in answers
            assert b"retry-after: 1" in answers
            assert [line["reason"] for line in lines] == ["too-many-connections"]
        first.close()
        second.close()
        await empty(server)
        assert statuses(await asyncio.to_thread(converse, address, _GET + b"\r\n")) == [200]


async def test_a_full_server_tells_how_it_is(settings: Settings, broker: Broker) -> None:
    """Beyond the places of all there are some for those who look after it, and for nothing else."""
    async with hosted(with_server(settings, max_connections=2)) as (address, server):
        first, second = dial(address), dial(address)
        for path in sorted(HEALTH_PATHS):
            request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            answers = await asyncio.to_thread(converse, address, request * 2)
            assert statuses(answers) == [200], path
        answers = await asyncio.to_thread(
            converse, address, b"GET /api/v1/tasks HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert statuses(answers) == [503]
        assert b"server.maxconnections" in answers
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{address}/ws")
        assert refused.value.response.status_code == 503
        crowd = [dial(address) for _ in range(RESERVE)]
        assert statuses(await asyncio.to_thread(converse, address, _GET + b"\r\n")) == [503]
        for client in (first, second, *crowd):
            client.close()
        await empty(server)
        assert statuses(await asyncio.to_thread(converse, address, _GET + b"\r\n")) == [200]


async def empty(server: Server) -> None:
    """Return once a server has no connection any more."""
    end = time.monotonic() + 10
    while server.server_state.connections:
        assert time.monotonic() < end, "a connection is left"
        await asyncio.sleep(0.01)


def test_health_is_what_needs_no_credential() -> None:
    """The paths that a full server answers are those of the contract that are open to all."""
    paths = load_contract()["paths"].items()
    assert {path for path, item in paths if item.get("get", {}).get("security") == []} == (
        HEALTH_PATHS
    )


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (None, ""),
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::1", 5), "::/64"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("::ffff:10.0.0.1", 5), "10.0.0.1"),
    ],
)
def test_whom_a_peer_counts_as(client: tuple[str, int] | None, address: str) -> None:
    """Whoever has a network of IPv6 has 2^64 addresses, and counts as one."""
    assert address_of(client) == address


def test_places_are_given_back() -> None:
    """Counts of addresses that are gone take no memory."""
    state = Connections(ServerSettings(max_connections=1, max_connections_per_address=2))
    assert [state.enter("a") for _ in range(3)] == [Place.FREE, Place.HEALTH_ONLY, Place.NONE]
    for _ in range(3):
        state.leave("a")
    assert [state.enter(str(number)) for number in range(RESERVE + 2)][1:] == [
        *[Place.HEALTH_ONLY] * RESERVE,
        Place.NONE,
    ]
    for number in range(RESERVE + 2):
        state.leave(str(number))
    assert not state._by_address


class FakeConnection(Watched):
    """A connection that a test puts into any stage."""

    def __init__(self) -> None:
        self.now: tuple[Stage, object] = (Stage.HEAD, 1)
        self.expired: list[Stage] = []

    def stage(self) -> tuple[Stage, object]:
        """Return what the test has set."""
        return self.now

    def expire(self, stage: Stage) -> None:
        """Remember that the time was over."""
        self.expired.append(stage)


def test_the_sweep_times_stages_of_requests() -> None:
    """Time counts from when a stage of a request is first seen; another one starts anew."""
    state, one = Connections(ServerSettings()), FakeConnection()
    state.connections.add(one)  # type: ignore[arg-type]
    state.sweep(0.0)
    state.sweep(9.5)
    one.now = (Stage.HEAD, 2)
    state.sweep(10.0)
    state.sweep(19.5)
    assert one.expired == []
    state.sweep(20.0)
    assert one.expired == [Stage.HEAD]
    for stage, seconds in ((Stage.READER, 30), (Stage.NEXT, 120), (Stage.BODY, 31)):
        one.now, one.expired = (stage, 2), []
        state.sweep(1_000.0)
        state.sweep(1_000.0 + seconds - 0.1)
        assert one.expired == []
        state.sweep(1_000.0 + seconds)
        assert one.expired == [stage]
    one.now, one.expired = (Stage.ANSWER, 2), []
    state.sweep(2_000.0)
    state.sweep(1e9)
    assert one.expired == []
    state.connections.clear()
    state.sweep(1e9)
    assert not state._seen


async def test_places_of_a_key(settings: Settings, broker: Broker) -> None:
    """Each key or token has its own places for events; without one nobody is counted."""
    few = {"events": EventSettings(max_connections_per_key=2)}
    headers = [bearer(KEYS[0]), bearer(token(scope="tasks:read"))]
    async with hosted(guarded(settings).model_copy(update=few)) as (address, _):
        url = f"ws://{address}/ws"
        for shown in headers:
            sockets = [await connect(url, additional_headers=shown) for _ in range(2)]
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, additional_headers=shown)
            response = refused.value.response
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            assert b"events.maxconnectionsperkey" in response.body
            await sockets[0].close()
            end = time.monotonic() + 10
            while True:
                try:
                    await (await connect(url, additional_headers=shown)).close()
                    break
                except InvalidStatus:
                    assert time.monotonic() < end
    async with hosted(settings.model_copy(update=few)) as (address, _):
        crowd = [await connect(f"ws://{address}/ws") for _ in range(5)]
        assert [client.close_code for client in crowd] == [None] * 5


def masked(opcode: int, payload: bytes = b"") -> bytes:
    """Return a frame of a client; its mask changes nothing."""
    return bytes((opcode, 0x80 | len(payload))) + bytes(4) + payload


TEXT, PART, LAST_PART, PING, PONG = 0x81, 0x00, 0x80, 0x89, 0x8A


@pytest.mark.parametrize(
    "flood",
    [
        masked(PING) * 20_000,
        masked(PONG) * 20_000,
        masked(TEXT, b"{}") * 20_000,
        masked(0x01, b"{") + masked(PART) * 20_000,
    ],
    ids=["pings", "pongs", "messages", "parts"],
)
async def test_floods_of_frames(address: str, flood: bytes) -> None:
    """What costs the process more than the client is not read to its end."""
    async with connect(f"ws://{address}/ws") as client:
        client.transport.write(flood)
        assert await read_to_the_end(client) in (1008, None)
    assert statuses(await asyncio.to_thread(converse, address, _GET + b"\r\n")) == [200]


async def test_a_message_without_end(address: str) -> None:
    """Empty parts, some at a time, have no size; their number has a limit."""
    async with connect(f"ws://{address}/ws") as client:
        client.transport.write(masked(0x01, b"{"))
        for _ in range(MAX_FRAMES):
            client.transport.write(masked(PART))
            waiter = await client.ping()
            await waiter
        client.transport.write(masked(LAST_PART))
        assert await read_to_the_end(client) == 1008


async def test_pings_of_a_client_that_does_not_read(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that nobody takes do not pile up."""
    pings = masked(PING, b"x" * 125) * 20
    read, sent = 0, 0
    receive = EventsProtocol.data_received

    def count(protocol: EventsProtocol, data: bytes) -> None:
        nonlocal read
        receive(protocol, data)
        read += len(data) * protocol.handshake_complete

    monkeypatch.setattr(EventsProtocol, "data_received", count)
    async with hosted(settings) as (address, server):
        narrow = dial(address, receive_bytes=4_096)
        narrow.setblocking(False)
        client = await connect(f"ws://{address}/ws", sock=narrow)
        (connection,) = server.server_state.connections
        client.transport.pause_reading()
        end = time.monotonic() + 20
        for _ in range(400):
            client.transport.write(pings)
            sent += len(pings)
            while read < sent:
                assert time.monotonic() < end
                await asyncio.sleep(0)
        assert not connection.transport.is_closing()
        assert 0 < connection.transport.get_write_buffer_size() < 100_000
        client.transport.abort()


async def test_as_many_as_are_allowed(address: str) -> None:
    """A client may say all it has to say at once, and in parts."""
    subscribe = b'{"action":"subscribe","events":["task.failed"]}'
    parts = masked(0x01, subscribe[:20]) + masked(PING) + masked(LAST_PART, subscribe[20:])
    async with connect(f"ws://{address}/ws") as client:
        client.transport.write(parts + masked(TEXT, subscribe) * 20)
        for _ in range(21):
            assert json.loads(await client.recv())["type"] == "subscription.updated"


_LIMITED = """
import resource, sys
from taskqueue_core.settings import ServerSettings, Settings
from taskqueue_server.serving import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[1])))
allow_files(Settings(server=ServerSettings(max_connections=200)))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "allowed"), [(1_000, 428), (300, 300)])
def test_open_files(hard: int, allowed: int) -> None:
    """A process takes what its settings need, as far as it may, and says if that is too little."""
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(hard)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split()[-1] == str(allowed)
    assert ("server.maxconnections" in ran.stdout) == (allowed < 428)
