"""Connections that become WebSockets: whose place they keep, and what was sent too early."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest
from hosting import dial, hosted, read_all, statuses

from taskqueue_core.broker import Broker
from taskqueue_core.settings import Settings
from taskqueue_server.serving import Server

pytestmark = pytest.mark.anyio

_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
_SUBSCRIBE = b'{"action":"subscribe","events":["task.failed"]}'
PING, CLOSE = b"\x89\x80abcd", b"\x88\x80abcd"


@pytest.fixture
async def served(settings: Settings, broker: Broker) -> AsyncIterator[tuple[str, Server]]:
    """Yield host:port of a server, and the server."""
    async with hosted(settings) as served:
        yield served


def said(text: bytes) -> bytes:
    """Return a message of a client; its mask changes nothing."""
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text


async def test_a_place_is_left_by_who_took_it(served: tuple[str, Server]) -> None:
    """A client that is gone before its handshake is read has no address any more, but had one."""
    address, server = served
    for _ in range(3):
        with dial(address) as client:
            end = time.monotonic() + 10
            while not server.server_state.connections:
                assert time.monotonic() < end
                await asyncio.sleep(0)
            # In one turn of the loop, so that the server reads it when the client has gone.
            client.sendall(_HANDSHAKE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while server.server_state.connections:
            assert time.monotonic() < end
            await asyncio.sleep(0)
    assert server.server_state._number == 0
    assert server.server_state._by_address == {}


@pytest.mark.parametrize("pieces", [1, 2])
async def test_what_comes_before_the_answer(served: tuple[str, Server], pieces: int) -> None:
    """It is read once the handshake is answered, and nothing is answered before."""
    early = PING + said(_SUBSCRIBE) + CLOSE

    def talk() -> bytes:
        with dial(served[0]) as client:
            if pieces == 1:
                client.sendall(_HANDSHAKE + early)
            else:
                client.sendall(_HANDSHAKE)
                client.sendall(early)
            return read_all(client)

    head, _, frames = (await asyncio.to_thread(talk)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert frames.startswith(b"\x8a\x00")
    assert frames.endswith(b"\x88\x00")


async def test_a_message_before_the_answer_is_answered(served: tuple[str, Server]) -> None:
    """What was sent in one piece with the handshake counts as what is sent later."""

    def talk() -> bytes:
        with dial(served[0]) as client:
            client.sendall(_HANDSHAKE + said(_SUBSCRIBE))
            found = b""
            while not found.endswith(b"}}"):
                found += client.recv(4_096)
            return found

    answer = (await asyncio.to_thread(talk)).partition(b"\r\n\r\n")[2]
    assert json.loads(answer[2:])["data"] == {"events": ["task.failed"]}


@pytest.mark.parametrize("number", [1_000, 100_000])
async def test_too_much_before_the_answer(served: tuple[str, Server], number: int) -> None:
    """Who sends on and on without waiting for the answer gets none."""

    def talk() -> list[int]:
        with dial(served[0]) as client:
            client.sendall(_HANDSHAKE + PING * number)
            return statuses(read_all(client))

    assert await asyncio.to_thread(talk) == []


async def test_a_refused_handshake_with_more(served: tuple[str, Server]) -> None:
    """Behind a handshake that is refused nothing is read."""

    def talk(handshake: bytes) -> list[int]:
        with dial(served[0]) as client:
            client.sendall(handshake + said(_SUBSCRIBE) * 3)
            return statuses(read_all(client))

    assert await asyncio.to_thread(talk, _HANDSHAKE.replace(b"/ws", b"/no")) == [404]
    assert await asyncio.to_thread(talk, _HANDSHAKE.replace(b": 13", b": 99")) == [400]
