"""The endpoint ``/ws``: handshake, frames to the client, frames from the client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from taskqueue_core.errors import BrokerError
from taskqueue_server.ending import end_tasks
from taskqueue_server.framing import FRAMES
from taskqueue_server.guards import STRICT_HEADERS
from taskqueue_server.hub import Hub
from taskqueue_server.listeners import (
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    Close,
    Frame,
    Subscriber,
    make_frame,
)
from taskqueue_server.messages import Receive, Scope, Send
from taskqueue_server.metrics import ServerMetrics
from taskqueue_server.origins import Origins
from taskqueue_server.principal import Principal
from taskqueue_server.problems import ProblemError, problem_response, to_problem
from taskqueue_server.selection import Selection, parse_cursor
from taskqueue_server.validation import Parameters

PATH: Final = "/ws"
#: Largest frame a client may send, in bytes.
MAX_FRAME_BYTES: Final = 4_096
#: How long a connection may get events before its credential is looked at again.
RECHECK_MS: Final = 10_000


class _Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frame of a client."""

    action: Literal["subscribe", "unsubscribe"]
    events: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)]


_actions = msgspec.json.Decoder(_Action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """What a connection must fulfil: the contract's ``parameters``, the gate, an origin, room.

    ``admit`` is ``Gate.admit``; at most ``max_connections`` are open at once, and with the same
    credential ``max_connections_per_key``.
    """

    parameters: Parameters
    admit: Callable[[Scope], Awaitable[Principal]]
    origins: Origins
    partitions: int
    max_connections: int
    max_connections_per_key: int


class EventsEndpoint:
    """Serves the event stream; ``event_types`` are those of the contract."""

    def __init__(
        self,
        hub: Hub,
        metrics: ServerMetrics,
        event_types: frozenset[str],
        now_ms: Callable[[], int],
        handshakes: Handshakes,
    ) -> None:
        self._hub = hub
        self._metrics = metrics
        self._event_types = event_types
        self._now_ms = now_ms
        self._handshakes = handshakes
        self._open = 0
        self._open_by_name: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its handshake to its end."""
        await receive()
        with ExitStack() as places:
            try:
                subscriber = await self._welcome(scope, places)
            except (ProblemError, BrokerError) as error:
                problem = to_problem(error)
                assert problem is not None
                await _deny(scope, send, problem)
                return
            with self._metrics.connection():
                await self._serve(subscriber, scope, receive, send)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places of all; it is given back also where the handshake is refused."""
        self._open += 1
        try:
            if self._open > self._handshakes.max_connections:
                raise _too_many("events.maxconnections allows")
            yield
        finally:
            self._open -= 1

    @contextmanager
    def _place_of(self, name: str) -> Iterator[None]:
        """Take one of the places that a credential has; nobody has a name while nobody is asked."""
        self._open_by_name[name] += 1
        try:
            if name and self._open_by_name[name] > self._handshakes.max_connections_per_key:
                raise _too_many("events.maxconnectionsperkey allows with this key or token")
            yield
        finally:
            self._open_by_name[name] -= 1
            if not self._open_by_name[name]:
                del self._open_by_name[name]

    async def _welcome(self, scope: Scope, places: ExitStack) -> Subscriber:
        """Return the buffer of a client whose handshake is in order."""
        rules = self._handshakes
        if scope["path"] != PATH:
            raise ProblemError(404, "not-found", "there is no WebSocket at this path")
        places.enter_context(self._place())
        principal = await rules.admit(scope)
        places.enter_context(self._place_of(principal.name))
        rules.origins.check(scope)
        query = rules.parameters.parse_query(scope)
        selection = Selection.parse(query, owner=principal.owner)
        return await self._hub.join(selection, since=parse_cursor(query, "since", rules.partitions))

    async def _serve(
        self, subscriber: Subscriber, scope: Scope, receive: Receive, send: Send
    ) -> None:
        pump: asyncio.Task[None] | None = None
        try:
            await send({"type": "websocket.accept"})
            pump = asyncio.create_task(self._pump(scope, subscriber, send))
            await self._listen(subscriber, receive)
        finally:
            if pump is not None:
                await end_tasks(pump)  # a send to a client that has gone fails in its own way
            await self._hub.leave(subscriber)

    async def _is_still_welcome(self, scope: Scope) -> bool:
        """Tell whether the credential holds: a key may be revoked, a token expires."""
        try:
            await self._handshakes.admit(scope)
        except BrokerError:
            return True  # there are no events either while the broker is away
        except ProblemError:
            return False
        return True

    async def _pump(self, scope: Scope, subscriber: Subscriber, send: Send) -> None:
        takes_frames = FRAMES in scope.get("extensions", {})
        recheck_at = self._now_ms() + RECHECK_MS
        while True:
            batch = await subscriber.take()
            if self._now_ms() >= recheck_at:
                if not await self._is_still_welcome(scope):
                    batch = [Close(POLICY_VIOLATION)]
                recheck_at = self._now_ms() + RECHECK_MS
            frames = [item for item in batch if isinstance(item, Frame)]
            if takes_frames and frames:
                await send({"type": FRAMES, "frames": b"".join([frame.wire for frame in frames])})
            elif not takes_frames:
                for frame in frames:
                    await send({"type": "websocket.send", "text": frame.body.decode()})
            for event_type, number in Counter([frame.type for frame in frames]).items():
                self._metrics.count_message(event_type, number)
            if isinstance(batch[-1], Close):
                await send({"type": "websocket.close", "code": batch[-1].code})
                return
            # A send does not yield while the transport takes data: let other work in.
            await asyncio.sleep(0)

    async def _listen(self, subscriber: Subscriber, receive: Receive) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            subscriber.reply(self._answer(subscriber.selection, message.get("text")))

    def _answer(self, selection: Selection, text: str | None) -> Frame:
        """Apply a client's frame and return the answer to it."""
        try:
            action = _parse_action(text, self._event_types)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            return make_frame("frame.refused", self._now_ms(), {"message": str(error)[:500]})
        named = frozenset(action.events)
        if action.action == "subscribe":
            selection.types = (selection.types or frozenset()) | named
        else:
            selected = self._event_types if selection.types is None else selection.types
            selection.types = selected - named
        data = {"events": sorted(selection.types)}
        return make_frame("subscription.updated", self._now_ms(), data)


def _parse_action(text: str | None, event_types: frozenset[str]) -> _Action:
    if text is None:
        raise ValueError("frames are JSON text, not binary")
    action = _actions.decode(text)
    unknown = sorted(set(action.events) - event_types)
    if unknown:
        raise ValueError(f"unknown event {unknown[0][:200]!r}")
    return action


def _too_many(limit: str) -> ProblemError:
    message = f"this server has as many connections as {limit}"
    return ProblemError(503, "too-many-connections", message, headers=((b"retry-after", b"1"),))


async def _deny(scope: Scope, send: Send, problem: ProblemError) -> None:
    """Refuse a handshake with a readable answer, where the server can send one."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        code = TRY_AGAIN_LATER if problem.status == 503 else POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code})
        return
    response = problem_response(problem)
    headers = [(b"content-type", response.content_type), *response.headers, *STRICT_HEADERS]
    start = {"type": "websocket.http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})
