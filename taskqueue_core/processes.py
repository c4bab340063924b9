"""Several processes as one: a light parent that starts, watches, restarts and ends children.

Used for ``taskqueue-server --dev`` and ``--workers N`` and for ``taskqueue-worker --processes N``.
Invariants:

- Children end with their parent, whatever way it went. Each holds the reading end of a pipe whose
  only writing end is the parent's; ``watch_parent``, which every child of ours calls first thing,
  turns its closing into the child's own SIGTERM. A kernel parent-death signal is not used beside
  it: a second SIGTERM means "hurry", so one and only one may come from a dead parent.
- Every child leads a session of its own, so that Ctrl-C reaches the parent alone, which passes it
  on once, and so that what a child leaves behind can be ended as a group.
- The parent does nothing but wait: no event loop, no broker connection, nothing that can hang.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from taskqueue_core.errors import SettingsError

logger = logging.getLogger(__name__)

#: A child that exits with this refuses its configuration: starting it again would not help.
EXIT_BAD_CONFIGURATION: Final = 2
#: Tells a child its end of the parent's pipe. Not a setting, hence not ``TASKQUEUE_...``.
PARENT_PIPE_VARIABLE: Final = "_TASKQUEUE_PARENT_PIPE"

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# The ways a child ends that has done what SIGTERM or SIGINT asked of it.
_CLEAN_STOP_CODES: Final = frozenset({0, -signal.SIGTERM, -signal.SIGINT, 143, 130})
_HOUSEKEEPING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A command to keep running; ``env`` is its whole environment, None means the parent's."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a child that died unasked is started again.

    A death within ``quick_seconds`` of the start is quick; ``quick_limit`` of them in a row end
    everything. The delay doubles with each from ``first_seconds`` and stays below ``cap_seconds``.
    """

    first_seconds: float = 0.1
    cap_seconds: float = 5.0
    quick_seconds: float = 5.0
    quick_limit: int = 5

    def count_death(self, quick_deaths: int, lived_seconds: float) -> int:
        """Return the number of quick deaths in a row after one more death."""
        return quick_deaths + 1 if lived_seconds < self.quick_seconds else 0

    def delay_seconds(self, quick_deaths: int) -> float:
        """Return how long to wait before the next start."""
        return min(self.first_seconds * 2.0 ** max(quick_deaths - 1, 0), self.cap_seconds)


@dataclass(slots=True, kw_only=True)
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    quick_deaths: int = 0
    #: When to start it again; None while it runs or when it is over for good.
    restart_at: float | None = None


@dataclass(slots=True, kw_only=True)
class _Stopping:
    """The state of a stop: when patience ends and what will be returned."""

    deadline: float
    code: int = 0


def _no_housekeeping() -> None:
    pass


@dataclass(slots=True, kw_only=True)
class _Signals:
    """Signals turned into something ``select`` can wait for, and the old handlers back after."""

    received: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def catch(self) -> Iterator[socket.socket]:
        reader, writer = socket.socketpair()
        reader.settimeout(0)
        writer.settimeout(0)
        numbers = (*_STOP_SIGNALS, signal.SIGCHLD)
        before = {number: signal.signal(number, self._note) for number in numbers}
        fd_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()

    def _note(self, number: int, _frame: object) -> None:
        if number in _STOP_SIGNALS:
            self.received.append(number)


class Supervisor:
    """Runs ``children`` until it is told to stop or one of them cannot be kept running.

    SIGTERM and SIGINT become a SIGTERM for every child, which then has ``grace_seconds``; a second
    signal is passed on too and leaves at most ``hurry_seconds``; what remains is killed.
    ``housekeeping`` is called about once a second from the main thread, for example to revive an
    embedded broker; it must be short.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        grace_seconds: float = 30.0,
        hurry_seconds: float = 5.0,
        restarts: RestartPolicy | None = None,
        housekeeping: Callable[[], object] = _no_housekeeping,
    ) -> None:
        self._children = [_Child(spec=spec) for spec in children]
        self._grace_seconds = grace_seconds
        self._hurry_seconds = hurry_seconds
        self._restarts = restarts or RestartPolicy()
        self._housekeeping = housekeeping
        self._stopping: _Stopping | None = None
        self._pipe = (-1, -1)

    def run(self) -> int:
        """Run the children to their end and return the exit code for this process.

        It is 0 after a stop in which every child ended well, else the code of the first that did
        not (128 + the signal's number if a signal ended it).

        Raises:
            SettingsError: a command cannot be started at all; those started before it are ended.
            RuntimeError: called outside the main thread, where signals cannot be received.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a Supervisor runs in the main thread only: it receives the signals")
        signals = _Signals()
        self._pipe = os.pipe()
        try:
            with signals.catch() as wakeups:
                for child in self._children:
                    self._start(child)
                self._supervise(signals, wakeups)
        finally:
            self._kill_remaining()
            for descriptor in self._pipe:
                os.close(descriptor)
        return self._stopping.code if self._stopping else 0

    def _supervise(self, signals: _Signals, wakeups: socket.socket) -> None:
        next_housekeeping = time.monotonic() + _HOUSEKEEPING_SECONDS
        while self._is_busy():
            now = time.monotonic()
            while signals.received:
                self._pass_on(signals.received.pop(0), now)
            for child in self._children:
                self._attend(child, now)
            if self._stopping and now >= self._stopping.deadline:
                self._kill_remaining()
            if not self._stopping and now >= next_housekeeping:
                self._keep_house()
                next_housekeeping = now + _HOUSEKEEPING_SECONDS
            if self._is_busy():
                self._wait(wakeups, next_housekeeping)

    def _is_busy(self) -> bool:
        return any(child.process or child.restart_at is not None for child in self._children)

    def _wait(self, wakeups: socket.socket, next_housekeeping: float) -> None:
        due = [child.restart_at for child in self._children if child.restart_at is not None]
        due.append(self._stopping.deadline if self._stopping else next_housekeeping)
        # A signal that came meanwhile has left its byte in the socket: select returns at once.
        select.select([wakeups], [], [], max(min(due) - time.monotonic(), 0.0))
        with contextlib.suppress(BlockingIOError):
            wakeups.recv(4096)

    def _keep_house(self) -> None:
        try:
            self._housekeeping()
        except Exception:
            # The children work on without it, and the next round tries again.
            logger.exception("housekeeping failed; trying again in a second")

    def _start(self, child: _Child) -> None:
        spec = child.spec
        reading_end = self._pipe[0]
        environment = dict(os.environ if spec.env is None else spec.env)
        environment[PARENT_PIPE_VARIABLE] = str(reading_end)
        try:
            child.process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
                list(spec.argv),
                env=environment,
                pass_fds=(*spec.pass_fds, reading_end),
                start_new_session=True,
            )
        except OSError as error:
            raise SettingsError(f"cannot start {spec.name} ({spec.argv[0]}): {error}") from error
        child.restart_at = None
        child.started_at = time.monotonic()
        logger.info("started %s (pid %d)", spec.name, child.process.pid)

    def _attend(self, child: _Child, now: float) -> None:
        """Notice a child's end, or start it again when its time has come."""
        if child.process is not None and (code := child.process.poll()) is not None:
            child.process = None
            if self._stopping:
                self._note_stopped(child.spec.name, code)
            else:
                self._bury(child, code, now)
        elif child.restart_at is not None and now >= child.restart_at:
            self._start(child)

    def _note_stopped(self, name: str, code: int) -> None:
        if self._stopping is None or code in _CLEAN_STOP_CODES:
            return
        logger.warning("%s did not stop well: %s", name, _describe(code))
        self._stopping.code = self._stopping.code or _exit_code(code)

    def _bury(self, child: _Child, code: int, now: float) -> None:
        """Decide what follows the death of a child that nobody asked to stop."""
        name, policy = child.spec.name, self._restarts
        if code == EXIT_BAD_CONFIGURATION:
            logger.error("%s refuses its configuration (exit code 2); stopping", name)
            self._stop(now, code)
            return
        child.quick_deaths = policy.count_death(child.quick_deaths, now - child.started_at)
        if child.quick_deaths >= policy.quick_limit:
            logger.error(
                "%s ended %d times in a row within %g s of its start, last with %s; stopping",
                name,
                child.quick_deaths,
                policy.quick_seconds,
                _describe(code),
            )
            self._stop(now, _exit_code(code) or 1)
            return
        delay = policy.delay_seconds(child.quick_deaths)
        child.restart_at = now + delay
        logger.warning("%s ended with %s; starting it again in %g s", name, _describe(code), delay)

    def _pass_on(self, number: int, now: float) -> None:
        if self._stopping is None:
            logger.info("%s: stopping", signal.Signals(number).name)
            self._stop(now, 0)
            return
        logger.info("%s again: stopping sooner", signal.Signals(number).name)
        self._stopping.deadline = min(self._stopping.deadline, now + self._hurry_seconds)
        self._terminate_all()

    def _stop(self, now: float, code: int) -> None:
        self._stopping = _Stopping(deadline=now + self._grace_seconds, code=code)
        for child in self._children:
            child.restart_at = None
        self._terminate_all()

    def _terminate_all(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.terminate()

    def _kill_remaining(self) -> None:
        """Kill every child that still runs, with all that it started, and reap it."""
        for child in self._children:
            if child.process is None:
                continue
            if child.process.poll() is None:  # until we reap it, its number is no stranger's
                logger.warning("%s did not stop in time; killing it", child.spec.name)
                os.killpg(child.process.pid, signal.SIGKILL)
            self._note_stopped(child.spec.name, child.process.wait())
            child.process = None


def _exit_code(code: int) -> int:
    """Return a child's ``returncode`` as a shell would report it."""
    return 128 - code if code < 0 else code


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def watch_parent(*, grace_seconds: float = 4.0) -> bool:
    """In a child of a Supervisor: end this process once the parent is gone.

    It gets a SIGTERM, halfway through ``grace_seconds`` a second one, which means "at once", and is
    then killed together with what it started: an orphan is gone within five seconds. Returns
    whether there is a parent to watch; the first call claims the pipe, so that no process this one
    starts takes it for its own.
    """
    variable = os.environ.pop(PARENT_PIPE_VARIABLE, None)
    if variable is None:
        return False
    pipe = int(variable)
    os.set_inheritable(pipe, False)  # noqa: FBT003 - takes no keyword
    threading.Thread(
        target=_end_with_parent, args=(pipe, grace_seconds), name="watch-parent", daemon=True
    ).start()
    return True


def _end_with_parent(pipe: int, grace_seconds: float) -> None:
    os.read(pipe, 1)  # nothing is ever written: this returns when the last writer is gone
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds / 2)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def bind_listener(host: str, port: int, *, backlog: int = 2048) -> socket.socket:
    """Return a listening TCP socket for children to share (``pass_fds=[it.fileno()]``).

    The parent binds once, so port 0 means one port for all and a port in use stops the start. All
    children accept from this one socket: SO_REUSEPORT sockets of their own would spread
    connections more evenly, at the same total, but strand those queued for a child that dies, and
    let a second server share the port unnoticed instead of failing.

    Raises:
        SettingsError: the address cannot be used; the message says why.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost has both kinds of address; clients try IPv4 in any case.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter for a name no resolver would take
        raise SettingsError(f"cannot listen on {host}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {host} port {port}: {error.strerror}. "
            "Stop what uses it or choose another port."
        ) from error
    return listener
