"""What the blocking client does to the world; ``_async_io`` has the same names."""

from __future__ import annotations

import time
from typing import Any, Final

import httpx
from websockets.sync.client import ClientConnection, connect

__all__ = ["HttpClient", "Socket", "close_socket", "open_socket", "pause", "receive"]

HttpClient = httpx.Client
Socket = ClientConnection
#: How long a server may take to say goodbye.
_GOODBYE_SECONDS: Final = 1.0


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def open_socket(url: str, options: dict[str, Any]) -> Socket:
    """Return an open WebSocket."""
    opening = connect(url, close_timeout=_GOODBYE_SECONDS, **options)
    # Newer versions connect only when they are entered; leaving closes the socket, no more.
    socket: Socket = opening.__enter__()
    return socket


def receive(socket: Socket, timeout_seconds: float | None) -> str | bytes:
    """Return the next frame; raises TimeoutError when there is none in time."""
    return socket.recv(timeout_seconds)


def close_socket(socket: Socket) -> None:
    """End a WebSocket."""
    socket.close()
