"""The faults of a run: a schedule that follows from the seed alone, and the hands that do it.

Three tracks go side by side: workers are killed, servers are killed, and the broker goes away in
several ways; a fourth one disturbs single processes. Of whatever happens an ``Incident`` remains,
for the oracle must know what had a cause.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from redis.exceptions import RedisError

from taskqueue_core.broker import Broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.verification.fleet import Fleet, Member
from taskqueue_core.verification.proxy import Mode

#: Who an incident of the broker is told of.
BROKER: Final = "broker"
#: How long a run must be, in seconds, for 50 deaths of workers, 50 of servers, 20 of the broker.
FULL_SECONDS: Final = 270.0


class Kind(StrEnum):
    """What can happen, in the words of the report."""

    WORKER_KILL = "worker killed"
    SERVER_KILL = "server killed"
    FREEZE = "worker frozen"
    CUT = "connection cut"
    RESET = "connection reset"
    STALL = "connection stalled"
    DEAF = "replies dropped"
    SLOW = "connection slow"
    BROKER_KILL = "broker killed"
    BROKER_CUT = "broker cut off"
    BROKER_STALL = "broker stalled"
    OUTAGE = "broker away for longer than a lease"
    CLIENT_KILL = "all connections killed every 200 ms"
    RESETS = "all connections reset every 200 ms"


#: The faults that concern every process at once.
OF_BROKER: Final = frozenset(
    {
        *(Kind.BROKER_KILL, Kind.BROKER_CUT, Kind.BROKER_STALL, Kind.OUTAGE),
        *(Kind.CLIENT_KILL, Kind.RESETS),
    }
)
#: Those that a proxy does.
OF_LINK: Final = {
    Kind.CUT: Mode.CUT,
    Kind.STALL: Mode.STALL,
    Kind.DEAF: Mode.DEAF,
    Kind.SLOW: Mode.SLOW,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something to do ``at`` seconds after the beginning of the run, for ``seconds``."""

    at: float
    kind: Kind
    target: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that was done, to a process or to the broker, by ``time.monotonic``."""

    kind: Kind
    who: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How many faults of each kind."""

    worker_kills: int
    server_kills: int
    broker_kills: int
    freezes: int
    links: int
    stalls: int
    outages: int
    bursts: int


def amounts_for(seconds: float) -> Amounts:
    """Return the faults for a run of so many seconds: 50, 50 and 20 kills in 270 of them.

    There is one of each at least, of those that last only where there is time for them.
    """
    share = seconds / FULL_SECONDS
    fewest = 1 if seconds >= 30 else 0

    def part(whole: float, fewest: int = 1) -> int:
        return max(fewest, round(whole * share))

    return Amounts(
        worker_kills=part(50),
        server_kills=part(50),
        broker_kills=part(20),
        freezes=part(4, fewest),
        links=part(24),
        stalls=part(2, fewest),
        outages=part(2, fewest),
        bursts=part(2, fewest),
    )


def schedule(
    rng: random.Random,
    amounts: Amounts,
    *,
    seconds: float,
    lease_seconds: float,
    owns_broker: bool = True,
) -> dict[str, list[Fault]]:
    """Return the tracks of a run, each in the order of time.

    A broker that is not our own is only made unreachable.
    """
    link_kinds = [*OF_LINK, Kind.RESET]
    links = [
        Fault(at=at, kind=kind, target=rng.randrange(5), seconds=rng.uniform(1, 5))
        for at in _spread(rng, amounts.links, seconds)
        for kind in [rng.choice(link_kinds)]
    ]
    freezes = [
        Fault(at=at, kind=Kind.FREEZE, target=rng.randrange(3), seconds=2 * lease_seconds)
        for at in _spread(rng, amounts.freezes, seconds - 2 * lease_seconds)
    ]
    broker = (
        [(Kind.BROKER_KILL if owns_broker else Kind.BROKER_CUT, 0.0)] * amounts.broker_kills
        + [(Kind.BROKER_STALL, 10.0)] * amounts.stalls
        + [(Kind.OUTAGE, lease_seconds + 2.0)] * amounts.outages
        + [(Kind.CLIENT_KILL if owns_broker else Kind.RESETS, 4.0)] * amounts.bursts
    )
    rng.shuffle(broker)
    slack = seconds - sum(length for _, length in broker)
    broker_faults, spent = [], 0.0
    for at, (kind, length) in zip(_spread(rng, len(broker), slack), broker, strict=True):
        outage = length or rng.uniform(0.2, 1.0)
        broker_faults.append(Fault(at=at + spent, kind=kind, seconds=outage))
        spent += length
    return {
        "workers": _kills(rng, Kind.WORKER_KILL, amounts.worker_kills, seconds, members=3),
        "servers": _kills(rng, Kind.SERVER_KILL, amounts.server_kills, seconds, members=2),
        "links": links,
        "freezes": freezes,
        "broker": broker_faults,
    }


def _spread(rng: random.Random, count: int, seconds: float) -> list[float]:
    """Return ``count`` times, one at random in each equal part of ``seconds``."""
    return [(number + rng.random()) * seconds / count for number in range(count)]


def _kills(
    rng: random.Random, kind: Kind, count: int, seconds: float, *, members: int
) -> list[Fault]:
    return [
        Fault(at=at, kind=kind, target=rng.randrange(members), seconds=rng.uniform(0.1, 1.5))
        for at in _spread(rng, count, seconds)
    ]


class Saboteur:
    """Does what the schedule says, to a fleet and to the broker it uses.

    A broker of our own is really killed and stopped; one of the user's is only made unreachable,
    by the proxies. Without proxies there are no faults of connections.
    """

    def __init__(
        self,
        fleet: Fleet,
        admin: Broker,
        embedded: EmbeddedBroker | None,
        tell: Callable[[str], None],
    ) -> None:
        self.incidents: list[Incident] = []
        #: What ended without being killed; a violation.
        self.died: list[str] = []
        self._fleet = fleet
        self._admin = admin
        self._embedded = embedded
        self._tell = tell
        self._down: set[str] = set()

    async def run(self, tracks: dict[str, list[Fault]]) -> None:
        """Do everything at its time."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for faults in tracks.values():
                group.create_task(self._follow(faults, began))

    async def watch(self) -> None:
        """Start again whatever ends without having been killed, and note it, until cancelled."""
        while True:
            await asyncio.sleep(0.2)
            for member in list(self._fleet.ended()):
                if member.name not in self._down:
                    code = member.process.returncode if member.process else None
                    self.died.append(f"{member.life} ended by itself, with {code}")
                    self._tell(self.died[-1])
                    self._fleet.start(member)

    async def _follow(self, faults: Sequence[Fault], began: float) -> None:
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
            await self._do(fault)

    async def _do(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.WORKER_KILL:
                await self._kill(self._fleet.of("worker")[fault.target], fault)
            case Kind.SERVER_KILL:
                await self._kill(self._fleet.of("server")[fault.target], fault)
            case Kind.FREEZE:
                await self._freeze(self._fleet.of("worker")[fault.target], fault)
            case _ if fault.kind in OF_BROKER:
                await self._disturb_broker(fault)
            case _:
                await self._disturb(self._fleet.members[fault.target], fault)

    @contextmanager
    def _noting(self, kind: Kind, who: str, seconds: float) -> Iterator[None]:
        shown = f" for {seconds:.1f} s" if seconds else ""
        self._tell(f"{kind}: {who}{shown}")
        began = time.monotonic()
        try:
            yield
        finally:
            self.incidents.append(Incident(kind=kind, who=who, began=began, ended=time.monotonic()))

    async def _kill(self, member: Member, fault: Fault) -> None:
        self._down.add(member.name)
        with self._noting(fault.kind, member.life, 0.0):
            self._fleet.kill(member)
        await asyncio.sleep(fault.seconds)
        self._fleet.start(member)
        self._down.discard(member.name)

    async def _freeze(self, member: Member, fault: Fault) -> None:
        life = member.life
        with self._noting(fault.kind, life, fault.seconds):
            self._fleet.freeze(member)
            await asyncio.sleep(fault.seconds)
            if member.life == life:
                self._fleet.thaw(member)

    async def _disturb(self, member: Member, fault: Fault) -> None:
        if member.proxy is None:
            return
        # The process may be replaced meanwhile: its successor suffers too.
        lives = {member.life}
        if fault.kind is Kind.RESET:
            with self._noting(fault.kind, member.life, 0.0):
                member.proxy.reset()
            return
        began = time.monotonic()
        with self._noting(fault.kind, member.life, fault.seconds):
            member.proxy.switch(OF_LINK[fault.kind], delay_seconds=0.05)
            await asyncio.sleep(fault.seconds)
            member.proxy.switch(Mode.OPEN)
            lives.add(member.life)
        now = time.monotonic()
        for life in lives - {self.incidents[-1].who}:
            self.incidents.append(Incident(kind=fault.kind, who=life, began=began, ended=now))

    async def _disturb_broker(self, fault: Fault) -> None:
        if not any(member.proxy for member in self._fleet.members):
            return
        with self._noting(fault.kind, BROKER, fault.seconds):
            match fault.kind:
                case Kind.CLIENT_KILL | Kind.RESETS:
                    await self._kill_connections(fault.seconds)
                case Kind.BROKER_STALL:
                    with self._stalled():
                        await asyncio.sleep(fault.seconds)
                case _:
                    await self._take_away(fault.seconds)

    async def _kill_connections(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._embedded:
                try:
                    await self._admin.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
                except RedisError as error:
                    self._tell(f"CLIENT KILL was not answered: {error}")
            else:
                for member in self._fleet.members:
                    if member.proxy:
                        member.proxy.reset()
            await asyncio.sleep(0.2)

    def _stalled(self) -> AbstractContextManager[None]:
        return _stopped(self._embedded.pid) if self._embedded else self._switched(Mode.STALL)

    async def _take_away(self, seconds: float) -> None:
        if self._embedded is None:
            with self._switched(Mode.CUT):
                await asyncio.sleep(seconds)
            return
        os.kill(self._embedded.pid, signal.SIGKILL)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(_revive, self._embedded)

    @contextmanager
    def _switched(self, mode: Mode) -> Iterator[None]:
        proxies = [member.proxy for member in self._fleet.members if member.proxy]
        for proxy in proxies:
            proxy.switch(mode)
        try:
            yield
        finally:
            for proxy in proxies:
                proxy.switch(Mode.OPEN)


def _revive(embedded: EmbeddedBroker) -> None:
    # Until the kernel has told of its death, there is nothing to revive.
    while not embedded.revive():
        time.sleep(0.01)


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
