"""The fault run from beginning to end: start, disturb, wait, judge, clean up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from taskqueue_core.broker import Broker, configured_url, open_broker, with_url
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import Settings
from taskqueue_core.verification import aftermath
from taskqueue_core.verification.aftermath import collect
from taskqueue_core.verification.faults import Amounts, Incident, Saboteur, amounts_for, schedule
from taskqueue_core.verification.fleet import LEASE_SECONDS, Fleet, fleet_settings
from taskqueue_core.verification.oracle import Evidence, judge
from taskqueue_core.verification.proxy import dialer
from taskqueue_core.verification.submitter import Submitter, Tally

SERVERS: Final = 2
WORKERS: Final = 3
#: Longest wait, in seconds, for the last task to end.
DRAIN_SECONDS: Final = 60.0
#: What a run takes beside the time of its faults, about.
OVERHEAD_SECONDS: Final = 30.0

_CLIENTS: Final = 4
#: What a run leaves in its folder.
_FILES: Final = ("ledger.jsonl", "accepted.jsonl", "server-*.log", "worker-*.log")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do: ``seconds`` of faults that follow from ``seed``.

    Logs, ledger and the list of accepted tasks stay in ``folder`` if one is named, in place of
    those of an earlier run.
    """

    seed: int
    seconds: float
    tasks_per_second: float = 30.0
    amounts: Amounts | None = None
    slack_seconds: float = 0.0
    folder: Path | None = None


@dataclass(kw_only=True)
class Report:
    """What was done and found."""

    plan: Plan
    evidence: Evidence
    tally: Tally
    incidents: list[Incident]
    violations: list[str] = field(default_factory=list)


async def verify(settings: Settings, plan: Plan, tell: Callable[[str], None]) -> Report:
    """Run faults against the Redis of ``settings``, or a broker of our own if they name none.

    A namespace of its own is used and removed.

    Raises:
        BrokerUnavailableError: there is no such Redis, or the fleet did not start.
        SettingsError: a setting is refused.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        tell(f"{time.monotonic() - began:6.1f} s  {text}")

    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(TemporaryDirectory(prefix="taskqueue-verify-"))
        embedded = None
        if not configured_url(settings):
            embedded = stack.enter_context(_own_broker(Path(temporary)))
            settings = with_url(settings, embedded.tcp_url or "")
        settings = fleet_settings(with_url(settings, configured_url(settings)))
        folder = plan.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in _FILES:
            for of_an_earlier_run in folder.glob(pattern):
                of_an_earlier_run.unlink()
        return await _Run(settings, plan, folder, embedded, say).run()


def _own_broker(folder: Path) -> EmbeddedBroker:
    with bind_listener("127.0.0.1", 0) as listener:
        port = int(listener.getsockname()[1])
    return EmbeddedBroker(folder / "broker", port=port)


class _Run:
    """One run; its parts in the order in which they are called."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        folder: Path,
        embedded: EmbeddedBroker | None,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._folder = folder
        self._embedded = embedded
        self._say = say
        self._rng = random.Random(plan.seed)  # noqa: S311 (a schedule that can be repeated)
        self._found: list[str] = []

    async def run(self) -> Report:
        async with self._prepared() as broker, self._fleet() as fleet:
            for _ in range(SERVERS):
                await fleet.add("server")
            for _ in range(WORKERS):
                await fleet.add("worker")
            await fleet.until_ready(broker)
            self._say(f"{SERVERS} servers and {WORKERS} workers are ready")
            submitter = Submitter(
                fleet.urls,
                self._folder / "accepted.jsonl",
                random.Random(self._rng.random()),  # noqa: S311 (tasks that can be repeated)
                tasks_per_second=self._plan.tasks_per_second,
            )
            saboteur = Saboteur(fleet, broker, self._embedded, self._say)
            await self._disturb(saboteur, submitter)
            await self._drain(broker)
            self._found += saboteur.died
            self._say("stopping the fleet")
            self._found += await fleet.stop_all()
            evidence = await self._evidence(broker, fleet, submitter.tally, saboteur.incidents)
            self._found += submitter.tally.unexpected
            self._found += await broker.inspection.audit()
            await aftermath.expire(broker)
            self._found += [f"{key} is left over" for key in await aftermath.leftovers(broker)]
        return Report(
            plan=self._plan,
            evidence=evidence,
            tally=submitter.tally,
            incidents=saboteur.incidents,
            violations=self._found + judge(evidence),
        )

    @contextlib.asynccontextmanager
    async def _prepared(self) -> AsyncIterator[Broker]:
        """Yield the broker, reached without a proxy; the namespace is removed afterwards."""
        broker = open_broker(self._settings)
        try:
            await broker.prepare()
            self._say(f"namespace {self._settings.queue.namespace}")
            try:
                yield broker
            finally:
                await aftermath.remove(broker)
        finally:
            await broker.close()

    def _fleet(self) -> Fleet:
        dial = dialer(self._settings.redis.url)
        if dial is None:
            self._say("no proxy before a cluster or sentinels: only processes are disturbed")
        return Fleet(self._settings, self._folder, dial)

    async def _disturb(self, saboteur: Saboteur, submitter: Submitter) -> None:
        plan = self._plan
        tracks = schedule(
            self._rng,
            plan.amounts or amounts_for(plan.seconds),
            seconds=plan.seconds,
            lease_seconds=LEASE_SECONDS,
            owns_broker=self._embedded is not None,
        )
        watching = asyncio.create_task(saboteur.watch())
        submitting = asyncio.create_task(submitter.run(_CLIENTS))
        try:
            await saboteur.run(tracks)
            # What the last fault did shows in what comes after it.
            await asyncio.sleep(3.0)
        finally:
            for task in (submitting, watching):
                task.cancel()
            await asyncio.gather(submitting, watching, return_exceptions=True)
        if not submitting.cancelled() and (error := submitting.exception()):
            raise error

    async def _drain(self, broker: Broker) -> None:
        """Wait until every task has ended and the dead workers are forgotten."""
        self._say("no more faults; waiting for the last tasks")
        end = time.monotonic() + DRAIN_SECONDS
        backlog, workers = -1, -1
        while time.monotonic() < end:
            backlog = (await broker.inspection.queue_stats()).backlog
            counts = [await broker.redis.zcard(keys.workers) for keys in broker.partitions]
            workers = max(counts)
            if not backlog and workers == WORKERS:
                return
            await asyncio.sleep(0.2)
        self._found.append(
            f"{DRAIN_SECONDS:g} s after the last fault {backlog} tasks have not ended, and "
            f"{workers} workers are registered"
        )

    async def _evidence(
        self, broker: Broker, fleet: Fleet, tally: Tally, incidents: list[Incident]
    ) -> Evidence:
        for task_id, count in Counter(one.task_id for one in tally.accepted).items():
            if count > 1:
                self._found.append(f"task {task_id} was accepted {count} times")
        return await collect(
            broker,
            fleet,
            accepted={one.task_id: one.at for one in tally.accepted},
            submitted_until=tally.until,
            incidents=incidents,
            slack_seconds=self._plan.slack_seconds,
        )
