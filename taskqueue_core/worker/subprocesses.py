"""Run handlers in child processes: what they do to their process, the worker survives.

At most ``worker.concurrency`` children live at a time. They start when they are needed, are used
again, and end when they have been idle for a while, or with the worker. A call that is cancelled
or goes wrong costs its child, which is killed with everything that it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from taskqueue_core.plugin import DropTask, NonRetryable, RetryTask, TaskContext
from taskqueue_core.plugin.child import LENGTH, Answer, Call, Raised, Ready, Returned, Setup, Told
from taskqueue_core.settings import Settings
from taskqueue_core.worker.outcomes import Elsewhere
from taskqueue_core.worker.running import Running, Timer

#: Longest start of a child: it imports all plugins. The clock of its task starts after it.
START_SECONDS: Final = 30.0
#: A child that had nothing to do for so long is ended.
IDLE_SECONDS: Final = 60.0
#: How long a child that was told to end may take before it is killed.
END_SECONDS: Final = 2.0

#: What a dead child has sent is read at once; its descriptor may live on in what it has forked.
_LAST_WORDS_SECONDS: Final = 0.2
#: An answer beside its result, which is limited: a text and a traceback.
_ANSWER_MARGIN: Final = 64 * 1024
_READ_AHEAD: Final = 2**20
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_COMMAND: Final = (sys.executable, "-m", "taskqueue_core.plugin.child")


class ChildDied(Elsewhere):
    """Raised when a child cannot be started or ends during a call; the text says how."""


def _rebuilt(answer: Raised) -> Exception:
    """Return what a handler raised in a child as what has the same effect here."""
    match answer.kind:
        case "retry":
            return RetryTask(answer.delay, answer.text)
        case "drop":
            return DropTask(answer.text)
        case "non_retryable":
            return NonRetryable(answer.text)
    return Elsewhere(answer.text, answer.name)


class Child:
    """One child process; its calls are made one after the other.

    To be made on the thread that runs the event loop: when that one ends, Linux ends the child.
    """

    def __init__(self, answer_limit: int, on_exit: Callable[[Child], None]) -> None:
        self.idle_since = 0.0
        self.is_ending = False
        self._answer_limit = answer_limit
        self._on_exit = on_exit
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._is_called = False
        self._exited = asyncio.Event()
        self._reaping = threading.Lock()
        self._ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
                    [*_COMMAND, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what handlers print must not mix with what the worker prints
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                self._ours.close()
                raise ChildDied(f"the handler's process cannot be started: {error}") from error
        threading.Thread(
            target=self._reap,
            args=(asyncio.get_running_loop(),),
            name="taskqueue-reaper",
            daemon=True,
        ).start()

    @property
    def pid(self) -> int:
        """Return the id of the process, and of the group that it leads."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Tell whether it can take a call."""
        return not self._exited.is_set() and not (self._streams and self._streams[0].at_eof())

    async def begin(self, setup: bytes) -> None:
        """Have it load the plugins.

        Raises:
            ChildDied: it could not, or took too long.
        """
        self._streams = await asyncio.open_unix_connection(sock=self._ours, limit=_READ_AHEAD)
        try:
            async with asyncio.timeout(START_SECONDS):
                answer = await self._exchange(setup)
        except TimeoutError:
            text = f"the handler's process was not ready within {START_SECONDS:g} s"
            raise ChildDied(text) from None
        if not isinstance(answer, Ready):
            text = answer.text if isinstance(answer, Raised) else "it answers nonsense"
            raise ChildDied(f"the handler's process cannot be started: {text}")

    async def call(self, call: Call, tell: Callable[[Told], None]) -> Answer:
        """Make a call; ``tell`` gets what the handler says meanwhile.

        Raises:
            ChildDied: the process ended before it had answered.
        """
        return await self._exchange(msgspec.msgpack.encode(call), tell)

    async def exited(self) -> None:
        """Wait for its end."""
        await self._exited.wait()

    def end(self) -> None:
        """Tell it to end; it is killed if it does not."""
        self.is_ending = True
        self._hang_up()
        asyncio.get_running_loop().call_later(END_SECONDS, self.kill)

    def kill(self) -> None:
        """Kill it and everything in its group."""
        self.is_ending = True
        with self._reaping:
            if self._process.returncode is None:
                self._kill_group()
        self._hang_up()

    async def _exchange(
        self, message: bytes, tell: Callable[[Told], None] = lambda _: None
    ) -> Answer:
        assert self._streams is not None
        reader, writer = self._streams
        self._is_called = True
        try:
            writer.write(LENGTH.pack(len(message)) + message)
            await writer.drain()
            while isinstance(answer := await self._read(reader), Told):
                tell(answer)
        except (OSError, EOFError, ValueError):
            raise ChildDied(f"the handler's process died ({await self._fate()})") from None
        else:
            return answer
        finally:
            self._is_called = False

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        # What is longer than any answer is none: it is cut off, which makes it unreadable.
        return _answers.decode(await reader.readexactly(min(length, self._answer_limit)))

    async def _fate(self) -> str:
        """Return how it ended, which it may be about to do."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._exited.wait()
        code = self._process.returncode
        if code is None:
            return "its connection was lost"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait, in a thread, for its end, then end what it leaves behind."""
        if hasattr(os, "waitid"):
            # It stays a zombie for now: until it is reaped, its number is no stranger's.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            with self._reaping:
                self._kill_group()
                self._process.wait()
        else:
            self._process.wait()
            self._kill_group()
        with contextlib.suppress(RuntimeError):  # a loop that was closed before
            loop.call_soon_threadsafe(self._note_exit, loop)

    def _note_exit(self, loop: asyncio.AbstractEventLoop) -> None:
        self._exited.set()
        self._on_exit(self)
        if self._is_called:
            loop.call_later(_LAST_WORDS_SECONDS, self._hang_up)
        else:
            self._hang_up()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _hang_up(self) -> None:
        if self._streams:
            self._streams[1].transport.abort()
        else:
            self._ours.close()


class Children:
    """The child processes of one worker."""

    def __init__(self, settings: Settings) -> None:
        worker, plugins = settings.worker, settings.plugins
        self._most = worker.concurrency
        self._answer_limit = worker.max_result_bytes + _ANSWER_MARGIN
        self._setup = Setup(
            path=[],
            log_level=settings.log_level,
            disabled=tuple(plugins.disabled),
            prefer=dict(plugins.prefer),
            strict=plugins.strict,
            result_limit=worker.max_result_bytes,
            is_traced=settings.tracing.enabled,
        )
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def pids(self) -> list[int]:
        """Return the process ids of the children that live."""
        return sorted(child.pid for child in self._children)

    @asynccontextmanager
    async def borrowed(self, *, alone: bool) -> AsyncIterator[Child]:
        """Yield a child that nobody else uses; ``alone`` one that nobody did or will use.

        Whatever is raised inside, a cancellation for one, kills the child.

        Raises:
            ChildDied: no child could be started.
        """
        child = await self._start() if alone else self._take_idle() or await self._start()
        try:
            yield child
        except BaseException:
            child.kill()
            raise
        if alone:
            child.end()
        else:
            self._give_back(child)

    async def close(self) -> None:
        """End all children and wait for it."""
        if self._sweeping:
            self._sweeping.cancel()
        for child in list(self._children):
            if child in self._idle:
                child.end()
            else:
                child.kill()
        self._idle.clear()
        ends = [asyncio.ensure_future(child.exited()) for child in self._children]
        if ends:
            _, late = await asyncio.wait(ends, timeout=END_SECONDS + 1)
            for end in late:
                end.cancel()

    def _take_idle(self) -> Child | None:
        while self._idle:
            # The one used last: its memory is warm, and the others get to end.
            child = self._idle.pop()
            if child.is_alive:
                return child
        return None

    async def _start(self) -> Child:
        while self._idle and self._count() >= self._most:
            self._idle.pop(0).end()
        child = Child(self._answer_limit, self._children.discard)
        self._children.add(child)
        try:
            setup = msgspec.structs.replace(self._setup, path=list(sys.path))
            await child.begin(msgspec.msgpack.encode(setup))
        except BaseException:
            child.kill()
            raise
        return child

    def _count(self) -> int:
        return sum(not child.is_ending for child in self._children)

    def _give_back(self, child: Child) -> None:
        child.idle_since = time.monotonic()
        self._idle.append(child)
        if self._sweeping is None:
            self._sweep_in(IDLE_SECONDS)

    def _sweep_in(self, seconds: float) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = time.monotonic()
        for child in list(self._idle):
            if now - child.idle_since >= IDLE_SECONDS:
                self._idle.remove(child)
                child.end()
        if self._idle:
            self._sweep_in(self._idle[0].idle_since + IDLE_SECONDS - now)


def _pass_on(told: Told, context: TaskContext) -> None:
    context.progress(told.fraction, told.message)


async def call_apart(running: Running, children: Children, timer: Timer) -> bytes:
    """Run a delivery in a child process; its result is JSON already.

    Raises:
        Elsewhere: the handler raised, or its process died.
        TaskControl: the handler raised one to steer its task.
    """
    delivery, context = running.delivery, running.context
    running.trace = ""
    # The plugins are loaded first, which must not cost the task its time.
    running.wind(START_SECONDS)
    async with children.borrowed(alone=delivery.lost_leases > 0) as child:
        running.wind()
        timer.ring_by(running.alarm)
        call = Call(
            digits=delivery.digits,
            type=delivery.type,
            queue=delivery.queue,
            priority=delivery.priority,
            attempt=context.attempt,
            max_retries=context.max_retries,
            remaining_seconds=context.remaining_seconds,
            fence=context.fence,
            worker_id=context.worker_id,
            body=delivery.body,
            traceparent=running.span.traceparent if running.span else "",
        )
        answer = await child.call(call, lambda told: _pass_on(told, context))
    if isinstance(answer, Returned):
        return answer.value
    if isinstance(answer, Raised):
        running.trace = answer.trace
        raise _rebuilt(answer)
    raise ChildDied("the handler's process did not answer the call")
