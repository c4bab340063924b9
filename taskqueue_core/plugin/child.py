"""A process that runs handlers for a worker, one call at a time: what it is told, what it answers.

It loads the plugins once and then answers calls over the socket whose descriptor it was given.
Invariants:

- It knows the handlers and nothing of the broker: what it does not hold it cannot spoil.
- It leads a process group of its own, which the worker kills as a whole, so that what a handler
  has started ends with it.
- It ends with the worker, whatever way that went: at once when it is idle, within about a second
  when it is at work, also when its handler never lets another thread run.

Imported by both sides. It needs no part of the worker, which keeps its start and its size small.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import inspect
import io
import math
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from taskqueue_core.codec import decode_body
from taskqueue_core.errors import PluginError
from taskqueue_core.keys import id_from_hex
from taskqueue_core.logs import configure_logging, subject
from taskqueue_core.plugin.attempt import described, encoded, named, traced
from taskqueue_core.plugin.context import TaskContext, describe
from taskqueue_core.plugin.control import DropTask, NonRetryable, RetryTask
from taskqueue_core.plugin.manager import PluginHost
from taskqueue_core.tracing import WORKER, exporting, find_spans

if TYPE_CHECKING:  # it imports OpenTelemetry
    from taskqueue_core.spans import Spans

#: Each message has its length before it.
LENGTH: Final = struct.Struct(">I")

#: Seconds that an orphan at work has left; less than the kernel gives it, see ``_end_with``.
_ORPHAN_SECONDS: Final = 0.5
#: For the last spans, so that the end still comes before that.
_FLUSH_SECONDS: Final = 0.3
#: Progress that is said sooner than this after the last is not passed on.
_TOLD_SECONDS: Final = 0.05
#: Linux: ask for a signal at the parent's death.
_PR_SET_PDEATHSIG: Final = 1


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a child: all it has to know; answered by ``Ready``."""

    path: list[str]
    log_level: str
    disabled: tuple[str, ...]
    prefer: dict[str, str]
    strict: bool
    result_limit: int
    is_traced: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Run one attempt; answered by ``Returned`` or ``Raised``. ``body`` is as it is stored.

    With ``traceparent`` it is part of that span.
    """

    digits: str
    type: str
    queue: str
    priority: int
    attempt: int
    max_retries: int
    remaining_seconds: float
    fence: str
    worker_id: str
    body: bytes
    traceparent: str = ""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The plugins are loaded."""


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The handler returned; ``value`` is its result as JSON."""

    value: bytes


class Raised(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The handler raised, or the plugins could not be loaded; ``delay`` is of a ``RetryTask``.

    ``name`` is the name of the error's type.
    """

    kind: Literal["retry", "drop", "non_retryable", "error"]
    text: str
    name: str = ""
    trace: str = ""
    delay: float | None = None


class Told(msgspec.Struct, frozen=True, tag=True):
    """What a handler says about its progress; any number of them come before the answer."""

    fraction: float
    message: str


Answer = Ready | Returned | Raised | Told


def raised(error: BaseException) -> Raised:
    """Put what a handler raised into a message."""
    delay = None
    kind: Literal["retry", "drop", "non_retryable", "error"] = "error"
    match error:
        case RetryTask():
            kind, delay = "retry", _seconds(error.delay)
        case DropTask():
            kind = "drop"
        case NonRetryable():
            kind = "non_retryable"
    name, text, trace = named(error), described(error), traced(error)
    return Raised(kind=kind, text=text, name=name, trace=trace, delay=delay)


def _seconds(delay: object) -> float | None:
    """Return a delay that ``RetryTask`` would take; a handler may have changed it since."""
    if isinstance(delay, (int, float)) and 0 <= delay < math.inf:
        return float(delay)
    return None


class _Child:
    """The child's side of the conversation."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._runner = asyncio.Runner()
        self._sending = threading.Lock()
        self._called: TaskContext | None = None
        self._told_at = -math.inf
        self._spans: Spans | None = None
        threading.Thread(target=self._listen, name="taskqueue-calls", daemon=True).start()

    def serve(self) -> int:
        """Answer calls until the worker hangs up; the exit code."""
        first = self._messages.get()
        if first is None:
            return 0
        setup = msgspec.msgpack.decode(first, type=Setup)
        sys.path[:] = setup.path
        configure_logging(setup.log_level)
        self._spans = find_spans(enabled=setup.is_traced)
        ending = exporting(WORKER, enabled=setup.is_traced, flush_seconds=_FLUSH_SECONDS)
        with ending, self._runner:
            return self._answer_calls(setup)

    def _answer_calls(self, setup: Setup) -> int:
        try:
            host = PluginHost.load(
                disabled=setup.disabled, prefer=setup.prefer, strict=setup.strict
            )
        except PluginError as error:
            self._answer(raised(error))
            return 1
        self._answer(Ready())
        calls = msgspec.msgpack.Decoder(Call)
        while (message := self._messages.get()) is not None:
            self._answer(self._run(host, calls.decode(message), setup.result_limit))
        return 0

    def _run(self, host: PluginHost, call: Call, limit: int) -> Answer:
        try:
            if self._spans is None:
                return Returned(encoded(self._call(host, call), limit))
            with self._spans.within(call.traceparent):
                return Returned(encoded(self._call(host, call), limit))
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its answer)
            return raised(error)

    def _call(self, host: PluginHost, call: Call) -> Any:
        handler = host.get(call.type)
        if handler is None:
            raise PluginError(f'the child process has no handler "{call.type}"')
        payload, metadata = decode_body(call.body)
        context = TaskContext(
            id=id_from_hex(call.digits),
            type=call.type,
            queue=call.queue,
            priority=call.priority,
            attempt=call.attempt,
            max_retries=call.max_retries,
            metadata=metadata,
            deadline=time.monotonic() + call.remaining_seconds,
            fence=call.fence,
            worker_id=call.worker_id,
            _tell=self._tell,
        )
        self._called = context
        subject.set(partial(describe, context))
        argument = handler.decode(payload)
        # A runner would keep to the context of its first call.
        here = contextvars.copy_context()

        async def called() -> Any:
            return await handler.function(context, argument)

        if handler.is_async:
            return self._runner.run(called(), context=here)
        value = handler.function(context, argument)
        # A plain function around a coroutine function may have handed the coroutine on.
        return self._runner.run(value, context=here) if inspect.iscoroutine(value) else value

    def _tell(self, context: TaskContext, fraction: float, message: str) -> None:
        # From any thread, also one that a handler has left behind: then it is of no use any more.
        with self._sending, contextlib.suppress(OSError):
            now = time.monotonic()
            if context is self._called and now - self._told_at >= _TOLD_SECONDS:
                self._told_at = now
                self._send(Told(fraction, message))

    def _answer(self, answer: Answer) -> None:
        with self._sending:
            self._called = None
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        message = msgspec.msgpack.encode(answer)
        self._connection.sendall(LENGTH.pack(len(message)) + message)

    def _listen(self) -> None:
        """Take messages in, in a thread, so that the worker's end is noticed during a call."""
        # A worker that was killed may have left answers unread: then its end is a reset.
        with contextlib.suppress(ConnectionError), self._connection.makefile("rb") as stream:
            while len(head := stream.read(LENGTH.size)) == LENGTH.size:
                (length,) = LENGTH.unpack(head)
                self._messages.put(stream.read(length))
        self._messages.put(None)
        # An idle child ends in order, for what its plugins do then; longer than this nothing takes.
        time.sleep(_ORPHAN_SECONDS)
        _end_group()


def _end_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _end_with(parent: int) -> None:
    """Have this process ended when its parent dies, even if no thread of ours can run by then.

    The kernel's signal must not kill at once, or what the handler has started would be left: the
    thread that listens has a second to end all of it. So the signal calls C's ``alarm``, with its
    own number, which is 1, as the seconds.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
        libc.signal.restype = ctypes.c_void_p
        libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    if os.getppid() != parent:
        _end_group()


def _leave_the_end_to_the_parent() -> None:
    """Pass over a SIGTERM that was sent to every process of a service.

    The worker decides when its children end. What a handler starts or forks obeys as usual; a
    signal that comes in the middle of a fork waits until it does.
    """

    def hold() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def obey() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_go()

    signal.signal(signal.SIGTERM, lambda *_: None)
    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=obey)


def main() -> int:
    """Serve on the descriptor and for the parent that the command line names."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(descriptor, False)  # noqa: FBT003 (takes no keyword)
    _end_with(parent)
    _leave_the_end_to_the_parent()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a handler prints before it is killed is what its author will look for.
        sys.stdout.reconfigure(line_buffering=True)
    try:
        return _Child(socket.socket(fileno=descriptor)).serve()
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
