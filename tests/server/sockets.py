"""Clients of ``/ws`` over real sockets: what they are sent is checked against the contract."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

import httpx
from answers import AnswerChecker
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

#: Events that come by themselves every few seconds.
PERIODIC: Final = {"queue.depth", "system.metrics"}

_checker = functools.cache(AnswerChecker)


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """Return the next frame that is not sent periodically."""
    while True:
        frame: dict[str, Any] = json.loads(await socket.recv())
        is_reply = frame["type"] in {"subscription.updated", "frame.refused"}
        _checker().validate("WebSocketReply" if is_reply else "Event", frame)
        if frame["type"] not in PERIODIC:
            return frame


async def receive_all(socket: ClientConnection, last: str) -> list[dict[str, Any]]:
    """Return the frames up to the one with the id ``last``."""
    frames = [await receive(socket)]
    while frames[-1].get("id") != last:
        frames.append(await receive(socket))
    return frames


async def say(socket: ClientConnection, action: str, *events: str) -> dict[str, Any]:
    """Send a client's frame and return the answer to it."""
    await socket.send(json.dumps({"action": action, "events": list(events)}))
    return await receive(socket)


async def read_to_the_end(socket: ClientConnection) -> int | None:
    """Return the code with which the server closes."""
    while True:
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


async def submit(http: httpx.AsyncClient, **fields: Any) -> str:
    """Submit a task and return its id."""
    response = await http.post("/api/v1/tasks", json={"type": "echo", **fields})
    task_id: str = response.json()["id"]
    return task_id
