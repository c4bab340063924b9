"""What the asynchronous client does to the world; ``_sync_io`` has the same names."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect

__all__ = ["HttpClient", "Socket", "close_socket", "open_socket", "pause", "receive"]

HttpClient = httpx.AsyncClient
Socket = ClientConnection
#: How long a server may take to say goodbye.
_GOODBYE_SECONDS: Final = 1.0


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def open_socket(url: str, options: dict[str, Any]) -> Socket:
    """Return an open WebSocket."""
    return await connect(url, close_timeout=_GOODBYE_SECONDS, **options)


async def receive(socket: Socket, timeout_seconds: float | None) -> str | bytes:
    """Return the next frame; raises TimeoutError when there is none in time."""
    async with asyncio.timeout(timeout_seconds):
        return await socket.recv()


async def close_socket(socket: Socket) -> None:
    """End a WebSocket."""
    await socket.close()
