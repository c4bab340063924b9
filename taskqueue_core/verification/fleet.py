"""Start, kill, freeze and watch the processes of the fault run.

Every process has a proxy of its own before the broker and a log file per life. The processes end
with this one, whatever way it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import httpx

from taskqueue_core.broker import Broker, with_url
from taskqueue_core.config import child_environ
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.plugin.discovery import find_candidates
from taskqueue_core.processes import PARENT_PIPE_VARIABLE, bind_listener
from taskqueue_core.settings import Settings
from taskqueue_core.verification import ledger
from taskqueue_core.verification.proxy import Proxy, Streams, through

Kind = Literal["worker", "server"]

#: Short, so that a run sees many of them lapse.
LEASE_SECONDS: Final = 5.0
#: Longest waits, in seconds: for the processes to start, and for one to end when it is told to.
START_SECONDS: Final = 60.0
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


def fleet_settings(settings: Settings) -> Settings:
    """Return the settings of the fleet: a namespace of its own, short leases, no foreign plugin."""
    others = {one.distribution for one in find_candidates()} - {ledger.DISTRIBUTION}
    queue = settings.queue.model_copy(
        update={
            "namespace": f"verify-{secrets.token_hex(6)}",
            "max_lost_leases": 100,
            "max_queue_size": 1_000_000,
            "rate_limit_rps": 1_000_000,
            "task_retention_days": 1.0,
            "dead_letter_retention_days": 1.0,
        }
    )
    worker = settings.worker.model_copy(
        update={
            "id": "",
            "queues": (),
            "concurrency": 8,
            "heartbeat_interval_seconds": LEASE_SECONDS / 3,
            "lease_seconds": LEASE_SECONDS,
            "shutdown_timeout_seconds": 10.0,
        }
    )
    defaults = Settings()
    return settings.model_copy(
        update={
            "log_level": "info",
            "queue": queue,
            "worker": worker,
            "server": defaults.server,
            "auth": defaults.auth,
            "metrics": defaults.metrics,
            "events": defaults.events.model_copy(update={"max_length": 1_000_000}),
            "plugins": defaults.plugins.model_copy(update={"disabled": tuple(sorted(others))}),
        }
    )


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
        self._bytecode = TemporaryDirectory(
            prefix="taskqueue-bytecode-", ignore_cleanup_errors=True
        )
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
        if sys.dont_write_bytecode:
            # A hundred starts would compile everything again and leave no time for work.
            environ |= {
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": self._bytecode.name,
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

    async def until_ready(self, broker: Broker) -> None:
        """Wait until every server answers and every worker has registered.

        Raises:
            BrokerUnavailableError: a process ended instead, or they took longer than a minute.
        """
        end = time.monotonic() + START_SECONDS
        async with httpx.AsyncClient(timeout=5) as http:
            while time.monotonic() < end:
                with contextlib.suppress(httpx.TransportError):
                    answers = [await http.get(f"{url}/admin/health") for url in self.urls]
                    workers = len(await broker.inspection.workers())
                    is_whole = workers == len(self.of("worker"))
                    if is_whole and all(one.is_success for one in answers):
                        return
                if dead := next(self.ended(), None):
                    log = dead.lives[-1].log.read_text()
                    raise BrokerUnavailableError(f"{dead.life} did not start:\n{log[-2000:]}")
                await asyncio.sleep(0.1)
        raise BrokerUnavailableError(f"the fleet did not start within {START_SECONDS:g} s")

    async def stop_all(self) -> list[str]:
        """Ask every process to end; what is said of those that did not, or not well."""
        codes = await asyncio.gather(*map(self.stop, self.members))
        found = []
        for member, code in zip(self.members, codes, strict=True):
            # A server ends by the signal itself, once it has answered everybody.
            if code != 0 and not (member.kind == "server" and code == -signal.SIGTERM):
                said = "did not stop" if code is None else f"stopped with exit code {code}"
                found.append(f"{member.life} {said}")
        return found

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
        self._bytecode.cleanup()
