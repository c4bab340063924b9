"""Events as they happen, without a hole: a stream that comes back where it was."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from taskqueue_client import _calls
from taskqueue_client._async.transport import AsyncTransport
from taskqueue_client._async_io import Socket, close_socket, open_socket, pause, receive
from taskqueue_client._connection import api_error
from taskqueue_client.errors import TaskQueueError, UnexpectedAnswerError, UnreachableError
from taskqueue_client.events import Event, parse_event
from taskqueue_client.retries import may_pass

#: A connection that held for so long was a good one: what failed before it is forgotten.
_SETTLED_SECONDS: Final = 10.0
#: What the server answers to frames of a client is no event.
_REPLIES: Final = frozenset({"subscription.updated", "frame.refused"})


class AsyncEventStream:
    """An iterator over events, which connects again by itself and misses nothing meanwhile.

    Where events are missing all the same, there is an ``EventsMissed``. ``cursor`` is the place of
    the latest event: another stream goes on there with ``since``. It is one reader's; ``close`` may
    be called by another one, and ends the iteration.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        types: Sequence[str],
        *,
        task_id: str | None,
        since: str | None,
        reconnect_seconds: float,
    ) -> None:
        self.cursor = since
        self._transport = transport
        self._types = [str(one) for one in types]
        self._task_id = task_id
        self._reconnect_seconds = reconnect_seconds
        self._socket: Socket | None = None
        self._is_closed = False
        self._failures = 0
        self._failing_since = 0.0
        self._has_connected = False
        self._connected_at = 0.0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._next(None)
        if event is None:
            raise StopAsyncIteration
        return event

    async def open(self) -> None:
        """Connect, if it is not connected: from now on nothing is missed.

        Raises:
            TaskQueueError: the server refuses, or cannot be reached.
        """
        await self._open(None)

    async def close(self) -> None:
        """Disconnect for good."""
        self._is_closed = True
        await self._drop()

    async def receive(self, timeout: float | None = None) -> Event:
        """Return the next event.

        Raises:
            TimeoutError: there is none within so many seconds.
            TaskQueueError: the server refuses, or is away for longer than ``reconnect_seconds``.
            ValueError: the stream is closed.
        """
        event = await self._next(timeout)
        if event is None:
            raise ValueError("the stream is closed")
        return event

    async def _next(self, timeout: float | None) -> Event | None:
        """Return the next event, ``None`` once the stream is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_closed:
            await self._open(deadline)
            if self._socket is None:
                continue
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                frame = await receive(self._socket, left)
            except TimeoutError:
                raise
            except (ConnectionClosed, OSError) as error:
                await self._note_loss(error, deadline)
                continue
            self._failures = 0
            event = self._read(frame)
            if event is not None:
                return event
        return None

    def _read(self, frame: str | bytes) -> Event | None:
        """Return the event of a frame and note its place, ``None`` for a frame that is none."""
        try:
            found: dict[str, Any] = json.loads(frame)
            if found["type"] in _REPLIES:
                return None
            event = parse_event(found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnexpectedAnswerError("a frame of the server makes no sense") from error
        self.cursor = found.get("id") or self.cursor
        return event

    async def _open(self, deadline: float | None) -> None:
        while self._socket is None and not self._is_closed:
            try:
                await self._connect()
            except (TaskQueueError, InvalidHandshake, OSError) as error:
                await self._note_failure(error, deadline)

    async def _connect(self) -> None:
        connection = self._transport.connection
        if self.cursor is None:
            # A connection that is lost before its first event has a place to come back to as well.
            call = _calls.past_events(after=_calls.LATEST, types=(), task_id=self._task_id, limit=1)
            self.cursor = (await self._transport.send(call)).next_cursor
        url = connection.socket_url(self._types, self._task_id, self.cursor)
        try:
            self._socket = await open_socket(url, connection.socket_options())
        except InvalidStatus as error:
            answer = error.response
            raise api_error(
                answer.status_code, answer.reason_phrase, answer.headers, _body_of(answer.body)
            ) from error
        self._has_connected = True
        self._connected_at = time.monotonic()
        if self._is_closed:
            await self._drop()

    async def _note_loss(self, error: Exception, deadline: float | None) -> None:
        await self._drop()
        if time.monotonic() - self._connected_at >= _SETTLED_SECONDS:
            self._failures = 0
        if not self._is_closed:
            await self._note_failure(error, deadline)

    async def _note_failure(self, error: Exception, deadline: float | None) -> None:
        """Wait before the next attempt; raise when there shall be none, or none in time."""
        if isinstance(error, TaskQueueError) and not may_pass(error):
            raise error
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += getattr(error, "attempts", 1)
        policy = self._transport.connection.retry
        delay = policy.backoff_seconds(self._failures, random.random())  # noqa: S311
        delay = max(delay, getattr(error, "retry_after", None) or 0.0)
        # Who was never there is not waited for as long as who was.
        is_hopeless = not self._has_connected and self._failures >= policy.attempts
        if is_hopeless or now + delay - self._failing_since > self._reconnect_seconds:
            if isinstance(error, TaskQueueError):
                raise error
            raise UnreachableError(f"there is no stream of events: {error}") from error
        if deadline is not None and now + delay >= deadline:
            await pause(max(0.0, deadline - now))
            raise TimeoutError
        await pause(delay)

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await close_socket(socket)


def _body_of(body: bytes | bytearray | None) -> Any:
    try:
        return json.loads(body or b"null")
    except ValueError:
        return None
