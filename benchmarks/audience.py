"""A process of WebSocket clients that account for every event: what ``crowd.py`` starts.

Its arguments are the port, the number of clients, how many of them come back, the number of the
last event so far, the number at which those leave, and its patience in seconds. It says ``ready``
once all are connected. A line with the number of the last event there will be ends it: each client
goes on until it has accounted for that one, and what they found comes out as one line of JSON.

A client that stays counts what it is not sent (``events.gap``). One that comes back leaves in the
middle, and whenever it is told of a gap, and returns with ``since``: it has to get every event.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import cast

import uvloop

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_GAP = b'{"type":"events.gap"'
_ID = b',"id":"'
_TIMESTAMP = b'"timestamp":"'


@dataclass(slots=True)
class Account:
    """What one client has had; ``number`` is the last event that it can account for."""

    number: int
    received: int = 0
    missed: int = 0
    gaps: int = 0
    returns: int = 0
    max_delay_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def find_faults(self, events: int) -> list[str]:
        """Return what must not be in the account of so many events; it has to add up exactly."""
        faults = list(self.faults)
        if self.received + self.missed != events:
            faults.append(f"{self.received} received and {self.missed} missed of {events} events")
        if self.returns and self.missed:
            faults.append(f"came back, and missed {self.missed} events all the same")
        return faults


class Client:
    """One client, over one connection or, if it comes back, several, one after the other."""

    def __init__(self, port: int, number: int, leaves_at: int | None = None) -> None:
        self.account = Account(number)
        self.ended = asyncio.Event()
        self._port = port
        self._until: int | None = None
        self._comes_back = leaves_at is not None
        self._leaves_at = leaves_at
        self._last_id = b""
        self._connection: Connection | None = None
        self._returning: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open a connection, behind the last event that was received if there is one."""
        query = f"?since={self._last_id.decode()}" if self._last_id else ""
        self._connection = connection = Connection(self, f"/ws{query}")
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: connection, "127.0.0.1", self._port)
        except OSError as error:
            self.fail(f"not connected: {error}")
        else:
            await connection.answered

    def end_at(self, until: int) -> None:
        """Learn the number of the last event."""
        self._until = until
        self._look()

    def take(self, body: bytes) -> None:
        """Account for an event or a gap; reports have no id."""
        account = self.account
        if body.startswith(_GAP):
            if self._comes_back:
                self._leave()
                return
            missed = json.loads(body)["data"]["missed"]
            account.gaps += 1
            account.missed += missed
            account.number += missed
            self._look()
            return
        _, found, rest = body.rpartition(_ID)
        if not found:
            return
        number = int(rest[rest.rindex(b"-") + 1 : -2])
        if number != account.number + 1:
            self.fail(f"event {number} after {account.number}, without a gap")
            return
        account.number = number
        account.received += 1
        self._last_id = rest[:-2]
        self._look()

    def note_delay(self, body: bytes) -> None:
        """Measure how old a frame is; what is read of the past says nothing."""
        if not self._comes_back and _TIMESTAMP in body:
            start = body.index(_TIMESTAMP) + len(_TIMESTAMP)
            text = body[start : body.index(b'"', start)].decode()
            delay = time.time() - datetime.fromisoformat(text).timestamp()
            self.account.max_delay_seconds = max(self.account.max_delay_seconds, delay)

    def is_over(self, connection: Connection) -> bool:
        """Tell whether a connection is this client's no longer."""
        return self.ended.is_set() or self._connection is not connection

    def fail(self, fault: str) -> None:
        """Note what must not be, and end."""
        self.account.faults.append(fault)
        self._end()

    def _look(self) -> None:
        number = self.account.number
        if self._until is not None and number >= self._until:
            self._end()
        elif self._leaves_at is not None and number >= self._leaves_at:
            self._leaves_at = None
            self._leave()

    def _leave(self) -> None:
        self.account.returns += 1
        self._hang_up()
        self._returning = asyncio.create_task(self.connect())

    def _end(self) -> None:
        self.ended.set()
        self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


class Connection(asyncio.Protocol):
    """A handshake, then frames for one client."""

    def __init__(self, client: Client, path: str) -> None:
        #: Done once the handshake was answered, one way or another.
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = client
        self._path = path
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is sent away: only a client itself may leave."""
        if not self._client.is_over(self):
            self._client.fail(f"disconnected: {exc}")
        if not self.answered.done():
            self.answered.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take whole frames, and keep what is behind them."""
        data = self._rest + data
        if not self.answered.done():
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._client.fail(head.partition(b"\r\n")[0].decode(errors="replace"))
                return
            self.answered.set_result(None)
        last = b""
        for opcode, body in self._frames(data):
            if opcode == _TEXT:
                last = body
                self._client.take(body)
            elif opcode == _PING:
                self._answer(body)
            elif opcode == _CLOSE:
                self._client.fail(f"closed with {int.from_bytes(body[:2], 'big')}")
            if self._client.is_over(self):
                break
        self._client.note_delay(last)

    def _frames(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while len(data) >= at + 2:
            size, start = data[at + 1], at + 2
            if size > 125:
                start = at + (4 if size == 126 else 10)
                size = int.from_bytes(data[at + 2 : start], "big")
            if len(data) < start + size:
                break
            yield data[at] & 15, data[start : start + size]
            at = start + size
        self._rest = data[at:]

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        # A mask of zeros changes nothing.
        self._transport.write(bytes((0x80 | _PONG, 0x80 | len(body))) + bytes(4) + body)


async def attend(
    port: int, clients: int, returning: int, number: int, leaves_at: int, patience: int
) -> None:
    """Be the audience, see above."""
    audience = [
        Client(port, number, leaves_at if place < returning else None) for place in range(clients)
    ]
    for client in audience:
        await client.connect()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    until = int(await loop.run_in_executor(None, sys.stdin.readline))
    for client in audience:
        client.end_at(until)
    try:
        async with asyncio.timeout(patience):
            await asyncio.gather(*(client.ended.wait() for client in audience))
    except TimeoutError:
        for client in audience:
            if not client.ended.is_set():
                client.fail(f"still at event {client.account.number} of {until}")
    print(json.dumps([asdict(client.account) for client in audience]))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(attend(*map(int, sys.argv[1:])))
