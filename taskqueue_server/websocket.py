"""The endpoint ``/ws``: handshake, frames to the client, frames from the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from taskqueue_server.auth import Keyring
from taskqueue_server.ending import end_tasks
from taskqueue_server.hub import Close, Frame, Hub, Subscriber, make_frame
from taskqueue_server.messages import Receive, Scope, Send, find_header
from taskqueue_server.metrics import ServerMetrics
from taskqueue_server.problems import ProblemError, invalid, problem_response

PATH: Final = "/ws"
#: Largest frame a client may send, in bytes.
MAX_FRAME_BYTES: Final = 4_096


class _Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frame of a client."""

    action: Literal["subscribe", "unsubscribe"]
    events: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)]


_actions = msgspec.json.Decoder(_Action)


class EventsEndpoint:
    """Serves the event stream; ``event_types`` are those of the contract."""

    def __init__(
        self,
        hub: Hub,
        keyring: Keyring,
        metrics: ServerMetrics,
        event_types: frozenset[str],
        now_ms: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._keyring = keyring
        self._metrics = metrics
        self._event_types = event_types
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its handshake to its end."""
        await receive()
        try:
            self._check_handshake(scope)
        except ProblemError as problem:
            await _deny(scope, send, problem)
            return
        with self._metrics.connection():
            await self._serve(receive, send)

    async def _serve(self, receive: Receive, send: Send) -> None:
        subscriber = await self._hub.join()
        pump: asyncio.Task[None] | None = None
        try:
            await send({"type": "websocket.accept"})
            pump = asyncio.create_task(self._pump(subscriber, send))
            await self._listen(subscriber, receive)
        finally:
            if pump is not None:
                await end_tasks(pump)  # a send to a client that has gone fails in its own way
            await self._hub.leave(subscriber)

    def _check_handshake(self, scope: Scope) -> None:
        if scope["path"] != PATH:
            raise ProblemError(404, "not-found", "there is no WebSocket at this path")
        self._keyring.check_handshake(scope)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for name, _ in query:
            if name != "token":
                raise invalid(name[:200], "is not a query parameter of this operation")
        origin = find_header(scope["headers"], b"origin")
        host = find_header(scope["headers"], b"host")
        if origin is not None and urlsplit(origin).netloc.lower() != (host or b"").lower():
            raise ProblemError(403, "forbidden", "pages of other origins may not connect")

    async def _pump(self, subscriber: Subscriber, send: Send) -> None:
        while True:
            for item in await subscriber.take():
                if isinstance(item, Close):
                    await send({"type": "websocket.close", "code": item.code})
                    return
                await send({"type": "websocket.send", "text": item.text})
                self._metrics.count_message(item.type)
            # A send does not yield while the transport takes data: let other work in.
            await asyncio.sleep(0)

    async def _listen(self, subscriber: Subscriber, receive: Receive) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            subscriber.reply(self._answer(subscriber, message.get("text")))

    def _answer(self, subscriber: Subscriber, text: str | None) -> Frame:
        """Apply a client's frame and return the answer to it."""
        try:
            action = _parse_action(text, self._event_types)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            return make_frame("frame.refused", self._now_ms(), {"message": str(error)[:500]})
        named = frozenset(action.events)
        if action.action == "subscribe":
            subscriber.selected = (subscriber.selected or frozenset()) | named
        else:
            selected = self._event_types if subscriber.selected is None else subscriber.selected
            subscriber.selected = selected - named
        data = {"events": sorted(subscriber.selected)}
        return make_frame("subscription.updated", self._now_ms(), data)


def _parse_action(text: str | None, event_types: frozenset[str]) -> _Action:
    if text is None:
        raise ValueError("frames are JSON text, not binary")
    action = _actions.decode(text)
    unknown = sorted(set(action.events) - event_types)
    if unknown:
        raise ValueError(f"unknown event {unknown[0][:200]!r}")
    return action


async def _deny(scope: Scope, send: Send, problem: ProblemError) -> None:
    """Refuse a handshake with a readable answer, where the server can send one."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    response = problem_response(problem)
    headers = [(b"content-type", response.content_type), *response.headers]
    start = {"type": "websocket.http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})
