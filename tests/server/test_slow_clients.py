"""Clients that send or read too slowly: each has its time, and nobody else notices."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hosting import (
    converse,
    dial,
    hosted,
    read_all,
    read_until,
    send_all,
    server_process,
    statuses,
    with_server,
)

from taskqueue_core.broker import Broker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.serving import Server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

CROWD, HEAD_SECONDS = 200, 2.0
#: Between two bytes of a client that trickles.
PACE_SECONDS = 0.1
MIB = 2**20

_GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
_POST = b"POST /api/v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


class Probe(threading.Thread):
    """Asks for health again and again over connections of its own, as a monitor would."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self._end = threading.Event()
        self.seconds: list[float] = []

    def run(self) -> None:
        """Measure answers until it is told to stop."""
        while not self._end.wait(0.01):
            began = time.perf_counter()
            connection = http.client.HTTPConnection(self._address, timeout=20)
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
            connection.close()
            self.seconds.append(time.perf_counter() - began)

    def stop(self) -> float:
        """Return what 99 of 100 answers took at most."""
        self._end.set()
        self.join()
        return sorted(self.seconds)[len(self.seconds) * 99 // 100 - 1]


def trickle(address: str) -> list[tuple[float, list[int]]]:
    """Have a crowd send heads byte by byte; return when each was cut off, and its answers."""
    clients = [dial(address) for _ in range(CROWD)]
    for client in clients:
        client.sendall(_GET + b"X-Long: ")
        client.setblocking(False)
    began, ended = time.monotonic(), list[tuple[float, list[int]]]()
    while clients and time.monotonic() - began < 20:
        time.sleep(PACE_SECONDS)
        for client in list(clients):
            try:
                client.send(b"x")
                answer = client.recv(4_096)
            except BlockingIOError:
                continue
            except ConnectionError:
                answer = b""
            ended.append((time.monotonic() - began, statuses(answer)))
            client.close()
            clients.remove(client)
    assert clients == []
    return ended


async def test_a_crowd_that_trickles(settings: Settings, broker: Broker, tmp_path: Path) -> None:
    """Two hundred heads that never end cost nobody his answer, and the process no memory."""
    chosen = with_server(settings, read_header_timeout_seconds=HEAD_SECONDS)
    with (tmp_path / "log").open("wb") as log:
        async with server_process(chosen, log) as server:
            # The first crowd shows what so many connections take for once.
            await asyncio.to_thread(trickle, server.address)
            before = server.resident_bytes()
            probe = Probe(server.address)
            probe.start()
            ended = await asyncio.to_thread(trickle, server.address)
            slowest = probe.stop()
            assert server.resident_bytes() - before < 10 * MIB
    assert len(probe.seconds) > 50
    assert slowest < 0.2
    assert HEAD_SECONDS * 0.9 < min(ended)[0] <= max(ended)[0] < HEAD_SECONDS + 2
    # An answer that a reset overtakes is none.
    assert [408] in [answers for _, answers in ended]
    assert {tuple(answers) for _, answers in ended} <= {(408,), ()}


@pytest.fixture
async def impatient(settings: Settings, broker: Broker) -> AsyncIterator[tuple[str, Server]]:
    """Yield host:port of a server that waits a second or two for anything, and the server."""
    chosen = with_server(
        settings,
        read_header_timeout_seconds=1,
        read_timeout_seconds=1,
        write_timeout_seconds=1,
        idle_timeout_seconds=2,
    )
    async with hosted(chosen) as served:
        yield served


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", []),
        (b"\r\n", []),
        (b"G", [408]),
        (b"GET /health HTTP/1.1\r\nHost: a\r\n", [408]),
        (_GET + b"\r\n", [200]),
        (_GET + b"\r\nGET", [200, 408]),
        (_GET + b"Content-Length: 9\r\n\r\n", [200]),
        (_GET + b"Content-Length: 9\r\n\r\nx", [200]),
        (_GET + b"\r\n" + _GET + b"Transfer-Encoding: chunked\r\n\r\n", [200, 200]),
        (_POST + b"Content-Length: 9\r\n\r\n{", [408]),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n5;long", [408]),
        (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", [408]),
    ],
)
async def test_silence_is_ended(
    impatient: tuple[str, Server], sent: bytes, answers: list[int]
) -> None:
    """Whatever is missing, the connection ends, with 408 where a request has begun."""
    began = time.monotonic()
    found = await asyncio.to_thread(converse, impatient[0], sent)
    assert statuses(found) == answers
    assert time.monotonic() - began < 6


async def test_the_last_answer_comes_before_the_end(settings: Settings, broker: Broker) -> None:
    """A head that trickles behind a request does not cost the request its answer."""
    task = await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
    chosen = with_server(settings, read_header_timeout_seconds=0.2)
    wait = b"GET /api/v1/tasks/%s?wait=3 HTTP/1.1\r\nHost: a\r\n\r\n" % task.id.encode()
    async with hosted(chosen) as (address, _):
        answers = await asyncio.to_thread(converse, address, wait, b"GET /hea")
    assert statuses(answers) == [200]
    assert b"connection: close" in answers


async def test_a_body_waits_for_the_answer_before_it(settings: Settings, broker: Broker) -> None:
    """Its time begins when it is its turn: the server may not have read on until then."""
    task = await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
    chosen = with_server(settings, read_timeout_seconds=0.2)
    wait = b"GET /api/v1/tasks/%s?wait=3 HTTP/1.1\r\nHost: a\r\n\r\n" % task.id.encode()
    head = _POST + b"Connection: close\r\nContent-Length: 15\r\n\r\n"

    def talk(address: str) -> list[int]:
        with dial(address) as client:
            client.sendall(wait + head + b'{"type":')
            first = read_until(client, b"}")
            client.sendall(b'"echo"}')
            return statuses(first + read_all(client))

    async with hosted(chosen) as (address, _):
        assert await asyncio.to_thread(talk, address) == [200, 201]


async def test_bytes_that_are_no_request_do_not_keep_a_connection(
    impatient: tuple[str, Server],
) -> None:
    """Neither after an answer nor before the first request: only requests count."""

    def dribble(first: bytes) -> float:
        with dial(impatient[0]) as client:
            client.sendall(first)
            if first:
                read_until(client, b"}")
            began = time.monotonic()
            while time.monotonic() - began < 15:
                time.sleep(PACE_SECONDS)
                try:
                    client.sendall(b"\r\n")
                except ConnectionError:
                    break
            return time.monotonic() - began

    lasted = await asyncio.gather(
        asyncio.to_thread(dribble, b""), asyncio.to_thread(dribble, _GET + b"\r\n")
    )
    assert max(lasted) < 5


async def test_a_client_in_time_is_not_disturbed(impatient: tuple[str, Server]) -> None:
    """One connection serves for as long as requests come; deadlines are those of each request."""

    def ask() -> int:
        with dial(impatient[0]) as client:
            for _ in range(8):
                client.sendall(_GET)
                time.sleep(0.3)
                client.sendall(b"\r\n")
                read_until(client, b"}")
            return 8

    assert await asyncio.to_thread(ask) == 8


async def test_an_answer_that_nobody_reads(impatient: tuple[str, Server]) -> None:
    """What waits to be read is dropped with its connection."""
    address, server = impatient
    client = dial(address, receive_bytes=4_096)
    await asyncio.to_thread(send_all, client, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 90)
    began = time.monotonic()
    assert await asyncio.to_thread(client.recv, 1) == b"H"
    while server.server_state.connections:
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.01)
    assert time.monotonic() - began > 0.9
    answers = await asyncio.to_thread(read_all, client)
    assert len(statuses(answers)) < 90
    client.close()


async def test_a_reader_in_time_gets_everything(impatient: tuple[str, Server]) -> None:
    """Slowly is well as long as it is steady: the time is that of one answer."""

    def sip() -> int:
        found = 0
        with dial(impatient[0], receive_bytes=4_096) as client:
            client.settimeout(10)
            for _ in range(4):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
                head = read_until_length(client)
                while head > 0:
                    time.sleep(0.01)
                    head -= len(client.recv(min(head, 2_048)))
                found += 1
        return found

    assert await asyncio.to_thread(sip) == 4


def read_until_length(client: socket.socket) -> int:
    """Return the length of the body that comes next, after reading the head before it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    return int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
