"""WebSocket frames that are made once for all clients, and the protocol that takes them.

uvicorn would frame each event anew for every client. A connection of ``EventsProtocol`` says with
the ASGI extension ``FRAMES`` that its ``send`` takes whole frames too, any number at once.

What a client sends is small and seldom. Frames that come by the hundred, messages in ever so many
parts and pings without end are bounded here: each would cost the process time or memory.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.frames import Frame as ReceivedFrame
from websockets.http11 import Request

from taskqueue_server.connections import Connections, Stage

#: How long a client that is sent away may take to read what was sent to it before.
ABORT_SECONDS: Final = 2.0
#: Most frames that may come at once, and most parts of one message.
MAX_FRAMES: Final = 64
#: Name of the extension, and of the message: its ``frames`` are bytes for the wire.
FRAMES: Final = "taskqueue.frames"

_FINAL_TEXT: Final = 0x81
_UNREADABLE: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
#: So much is read before the frames in it are counted, and may come before the handshake's answer.
_STEP_BYTES: Final = 4_096


def text_frame(body: bytes) -> bytes:
    """Return UTF-8 text as one frame of a server (RFC 6455: final, not masked)."""
    size = len(body)
    if size < _TWO_BYTES:
        head = bytes((_FINAL_TEXT, size))
    elif size < 1 << 16:
        head = bytes((_FINAL_TEXT, _TWO_BYTES)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL_TEXT, _EIGHT_BYTES)) + size.to_bytes(8, "big")
    return head + body


class EventsProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, for clients that are sent much and say little."""

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._state = server_state
        self._address = ""
        self._early = b""
        self._frames_at_once = 0

    def inherit(self, address: str, rest: bytes) -> None:
        """Take over what the HTTP side knows: as whom the client counts, what it sent already."""
        self._address = address
        if rest:
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back the place that the HTTP side has found."""
        self._state.leave(self._address)
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """Offer the extension to the application."""
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            extensions: dict[str, Any] = dict(self.scope["extensions"] or {})
            self.scope["extensions"] = {**extensions, FRAMES: {}}

    def data_received(self, data: bytes) -> None:
        """Refuse a handshake that the library cannot read, which uvicorn would leave open."""
        if self.transport.is_closing():
            return
        if self.handshake_complete:
            self._read(data)
        elif self.handshake_initiated:
            self._keep(data)
        else:
            # It comes in one piece: the HTTP side has read it before.
            super().data_received(data)
            if not self.handshake_initiated and not self.transport.is_closing():
                self.transport.write(_UNREADABLE)
                self.transport.close()

    def _keep(self, data: bytes) -> None:
        """Keep what comes before the handshake is answered: a pong must not overtake the 101."""
        self._early += data
        if len(self._early) > _STEP_BYTES:
            self._state.tell("too much before the handshake is answered", self._address)
            self.transport.abort()

    def _read(self, data: bytes) -> None:
        self._frames_at_once = 0
        for start in range(0, len(data), _STEP_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _STEP_BYTES])

    def handle_events(self) -> None:
        """Handle the frames that were read, unless they are too many."""
        self._frames_at_once += len(self.conn.events)
        if self._frames_at_once > MAX_FRAMES:
            self.conn.events_received()
            self._send_away("too many frames at once")
        else:
            super().handle_events()

    def handle_cont(self, event: ReceivedFrame) -> None:
        """Take a part of a message, up to so many: empty ones have no size to be limited by."""
        if len(self.frames) >= MAX_FRAMES:
            self._send_away("a message of too many parts")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read the answers."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def _send_away(self, reason: str) -> None:
        self._state.tell(reason, self._address)
        self.conn.fail(CloseCode.POLICY_VIOLATION, reason)
        self.handle_parser_exception()

    async def send(self, message: Any) -> None:
        """Send a message of ASGI, or whole frames."""
        if message["type"] != FRAMES:
            await super().send(message)
            if message["type"] == "websocket.http.response.body":
                # A refusal completes the handshake too; else uvicorn takes it for an error of ours.
                self.handshake_complete = True
            if self._early and self.handshake_complete:
                early, self._early = self._early, b""
                self._read(early)
            return
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(message["frames"])

    def keepalive_timeout(self) -> None:
        """End a connection whose client does not answer a ping."""
        super().keepalive_timeout()
        self._abort_soon()

    def shutdown(self) -> None:
        """End a connection because the server stops."""
        super().shutdown()
        self._abort_soon()

    def stage(self) -> tuple[Stage, object]:
        """Return what is waited for: pings find out who is gone, but nobody pings after the end."""
        is_ending = self.close_sent or self.transport.is_closing()
        return (Stage.READER if is_ending else Stage.ANSWER), self

    def expire(self, stage: Stage) -> None:
        """End a connection whose client does not take its farewell."""
        self.transport.abort()

    def _abort_soon(self) -> None:
        # To close waits for the client to take what was sent; it may never do so.
        self.loop.call_later(ABORT_SECONDS, self.transport.abort)
