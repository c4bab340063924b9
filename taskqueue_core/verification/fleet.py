"""Start, kill, freeze and watch the processes of the fault run.

Every process has a proxy of its own before the broker and a log file per life. The processes end
with this one, whatever way it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from taskqueue_core.broker import with_url
from taskqueue_core.config import child_environ
from taskqueue_core.processes import PARENT_PIPE_VARIABLE, bind_listener
from taskqueue_core.settings import Settings
from taskqueue_core.verification import ledger
from taskqueue_core.verification.proxy import Proxy, Streams, through

Kind = Literal["worker", "server"]

#: Longest wait for a process to end when it is told to.
STOP_SECONDS: Final = 15.0
_COMMANDS: Final[dict[Kind, list[str]]] = {
    "worker": ["-m", "taskqueue_core.worker"],
    "server": ["-m", "taskqueue_server.serving"],
}


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a member, from its start to its end by ``time.monotonic``."""

    name: str
    log: Path
    began: float


@dataclass(slots=True)
class Member:
    """A place in the fleet that one process after the other fills."""

    kind: Kind
    name: str
    proxy: Proxy | None
    settings: Settings
    listener: socket.socket | None = None
    process: subprocess.Popen[bytes] | None = None
    lives: list[Life] = field(default_factory=list)
    is_frozen: bool = False

    @property
    def life(self) -> str:
        """The name of the present process, as the ledger has it."""
        return self.lives[-1].name

    @property
    def is_running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self.process is not None and self.process.poll() is None


class Fleet:
    """Servers and workers on one machine; an async context manager that ends all of them."""

    def __init__(
        self, settings: Settings, folder: Path, dial: Callable[[], Awaitable[Streams]] | None
    ) -> None:
        self.members: list[Member] = []
        self.ledger = folder / "ledger.jsonl"
        self._settings = settings
        self._folder = folder
        self._dial = dial
        self._lifeline = os.pipe()
        ledger.install(folder)

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def of(self, kind: Kind) -> list[Member]:
        """Return the members of a kind."""
        return [member for member in self.members if member.kind == kind]

    @property
    def urls(self) -> list[str]:
        """Return the addresses of the servers; each stays the same while processes come and go."""
        listeners = [member.listener for member in self.members if member.listener]
        return [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]

    async def add(self, kind: Kind) -> Member:
        """Start one more process."""
        name = f"{kind}-{len(self.of(kind)) + 1}"
        proxy, settings = None, self._settings
        if self._dial:
            proxy = Proxy(self._dial)
            await proxy.start()
            settings = with_url(settings, through(settings.redis.url, proxy.port))
        member = Member(kind, name, proxy, settings)
        if kind == "server":
            member.listener = bind_listener("127.0.0.1", 0)
        self.members.append(member)
        self.start(member)
        return member

    def start(self, member: Member) -> None:
        """Start a member's next process."""
        name = f"{member.name}.{len(member.lives) + 1}"
        life = Life(name, self._folder / f"{name}.log", time.monotonic())
        environ = child_environ(member.settings, os.environ) | {
            "PYTHONPATH": os.pathsep.join(
                [str(self._folder), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            PARENT_PIPE_VARIABLE: str(self._lifeline[0]),
            ledger.LEDGER_VARIABLE: str(self.ledger),
            ledger.MEMBER_VARIABLE: name,
        }
        command = [sys.executable, *_COMMANDS[member.kind]]
        inherited = [self._lifeline[0]]
        if member.listener:
            command.append(str(member.listener.fileno()))
            inherited.append(member.listener.fileno())
        with life.log.open("wb") as log:
            member.process = subprocess.Popen(  # noqa: S603 (our own commands, no shell)
                command,
                env=environ,
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        member.is_frozen = False
        member.lives.append(life)

    def kill(self, member: Member) -> None:
        """End a member's process at once, with whatever it started."""
        process = member.process
        if process and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def freeze(self, member: Member) -> None:
        """Stop a member's process where it is."""
        if member.process and member.process.poll() is None:
            os.killpg(member.process.pid, signal.SIGSTOP)
            member.is_frozen = True

    def thaw(self, member: Member) -> None:
        """Let a frozen process go on."""
        member.is_frozen = False
        if member.process and member.process.poll() is None:
            os.killpg(member.process.pid, signal.SIGCONT)

    def ended(self) -> Iterator[Member]:
        """Yield the members whose process has ended."""
        for member in self.members:
            if member.process is not None and not member.is_running:
                yield member

    async def stop(self, member: Member) -> int | None:
        """Ask a member's process to end, as an administrator would; its exit code, if it did."""
        process = member.process
        if process is None:
            return None
        self.thaw(member)
        process.terminate()
        try:
            return await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    async def close(self) -> None:
        """End every process and every proxy."""
        for member in self.members:
            self.kill(member)
            if member.listener:
                member.listener.close()
            if member.proxy:
                await member.proxy.close()
        for descriptor in self._lifeline:
            with contextlib.suppress(OSError):
                os.close(descriptor)
