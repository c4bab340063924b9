"""WebSocket frames that are made once for all clients, and the protocol that takes them.

uvicorn would frame each event anew for every client. A connection of ``EventsProtocol`` says with
the ASGI extension ``FRAMES`` that its ``send`` takes whole frames too, any number at once.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

#: How long a client that is sent away may take to read what was sent to it before.
ABORT_SECONDS: Final = 2.0
#: Name of the extension, and of the message: its ``frames`` are bytes for the wire.
FRAMES: Final = "taskqueue.frames"

_FINAL_TEXT: Final = 0x81
_UNREADABLE: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127


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

    def handle_connect(self, event: Request) -> None:
        """Offer the extension to the application."""
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            extensions: dict[str, Any] = dict(self.scope["extensions"] or {})
            self.scope["extensions"] = {**extensions, FRAMES: {}}

    def data_received(self, data: bytes) -> None:
        """Refuse a handshake that the library cannot read, which uvicorn would leave open."""
        super().data_received(data)
        # It comes in one piece: the HTTP side has read it before.
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_UNREADABLE)
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Send a message of ASGI, or whole frames."""
        if message["type"] != FRAMES:
            await super().send(message)
            if message["type"] == "websocket.http.response.body":
                # A refusal completes the handshake too; else uvicorn takes it for an error of ours.
                self.handshake_complete = True
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

    def _abort_soon(self) -> None:
        # To close waits for the client to take what was sent; it may never do so.
        self.loop.call_later(ABORT_SECONDS, self.transport.abort)
