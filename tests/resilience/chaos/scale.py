"""How much the tests of ``test_full_size.py`` do, and the processes that they do it to."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from staff import until

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.models import NewTask, Submitted
from taskqueue_core.settings import Settings
from taskqueue_core.verification.fleet import Fleet, fleet_settings
from taskqueue_core.verification.proxy import Streams

#: Most tasks of one ``submit_many``, so that progress can be told.
_PORTION: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The amounts; ``slack_seconds`` is what a machine that is busy with other tests may be late.

    No call to the broker may take longer than ``call_seconds``. ``processes`` is how many servers,
    and how many workers, run at once.
    """

    processes: int
    scheduled: int
    dead_letters: int
    failovers: int
    slack_seconds: float
    call_seconds: float

    @property
    def is_full(self) -> bool:
        """Whether nothing was made smaller."""
        return self is FULL


FULL: Final = Scale(
    processes=3,
    scheduled=150_000,
    dead_letters=100_000,
    failovers=3,
    slack_seconds=0.0,
    call_seconds=0.5,
)
SMALL: Final = Scale(
    processes=1,
    scheduled=2_000,
    dead_letters=2_000,
    failovers=1,
    slack_seconds=5.0,
    call_seconds=2.0,
)
#: ``make chaos`` asks for the full size.
SCALE: Final = FULL if os.environ.get("CHAOS_SIZE") == "full" else SMALL

_BEGAN: Final = time.monotonic()


def tell(text: str) -> None:
    """Say what is going on, for whoever waits for it, or reads the report of a failure."""
    sys.stdout.write(f"{time.monotonic() - _BEGAN:6.1f} s  {text}\n")
    sys.stdout.flush()


@asynccontextmanager
async def system(
    settings: Settings,
    folder: Path,
    *,
    servers: int,
    workers: int,
    dial: Callable[[], Awaitable[Streams]] | None = None,
) -> AsyncIterator[tuple[Broker, Fleet]]:
    """Run that many processes of each kind; the block begins when they are ready."""
    settings = fleet_settings(settings)
    # Many a worker, so that batches are what they are under load.
    worker = settings.worker.model_copy(update={"concurrency": 100})
    settings = settings.model_copy(update={"worker": worker})
    broker = open_broker(settings)
    try:
        await broker.prepare()
        async with Fleet(settings, folder, dial) as fleet:
            for _ in range(servers):
                await fleet.add("server")
            for _ in range(workers):
                await fleet.add("worker")
            await fleet.until_ready(broker)
            tell(f"servers: {servers}, workers: {workers}; all are ready")
            yield broker, fleet
    finally:
        await broker.close()


async def submit_all(broker: Broker, tasks: Sequence[NewTask]) -> list[str]:
    """Submit tasks and return the states that they were answered with, each once."""
    states = set()
    for at in range(0, len(tasks), _PORTION):
        for answer in await broker.submit_many(tasks[at : at + _PORTION]):
            assert isinstance(answer, Submitted), answer
            states.add(answer.state)
    return sorted(states)


async def drained(broker: Broker, *, within_seconds: float) -> None:
    """Return when every task has ended; say now and then how many have not."""
    said = time.monotonic()

    async def has_none() -> bool:
        nonlocal said
        backlog = (await broker.inspection.queue_stats()).backlog
        if backlog and time.monotonic() - said > 5:
            said = time.monotonic()
            tell(f"{backlog} tasks have not ended yet")
        return not backlog

    await until(has_none, "the end of every task", within_seconds=within_seconds)


class Calls:
    """The calls that a broker of our own answers, and how long each kept the others waiting."""

    def __init__(self, broker: Broker) -> None:
        self._redis: Any = broker.redis
        self._names = {digest: name for name, digest in broker.scripts._hashes.items()}

    async def watch(self) -> None:
        """Measure from now on."""
        await self._redis.config_set("slowlog-log-slower-than", 1000)
        await self._redis.config_set("slowlog-max-len", 10_000)
        await self._redis.slowlog_reset()
        await self._redis.config_resetstat()

    async def longest_seconds(self) -> float:
        """Say what was measured; the longest call of a script."""
        info = await self._redis.info("everything")
        percentiles = info["latency_percentiles_usec_evalsha"]
        calls = info["cmdstat_evalsha"]["calls"]
        shown = ", ".join(f"{name} {value / 1000:.1f} ms" for name, value in percentiles.items())
        longest, name = 0.0, "none"
        for entry in await self._redis.slowlog_get(10_000):
            words = entry["command"].decode("utf-8", "replace").split(" ")
            if words[0] == "EVALSHA" and entry["duration"] / 1e6 > longest:
                longest, name = entry["duration"] / 1e6, self._names.get(words[1], "unknown")
        tell(f"{calls} calls of scripts: {shown}, longest {longest * 1000:.1f} ms ({name})")
        return longest
