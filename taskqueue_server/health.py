"""How the service is: what probes of this process and of its broker are told.

Anybody may ask, as often as they like: what is found out is used again for a second, those who ask
meanwhile wait for the same answer, and whatever the broker does, it comes in time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from taskqueue_core.broker import Broker
from taskqueue_core.models import QueueStats, ServerState, Survey, WorkerState
from taskqueue_server.coverage import Coverage
from taskqueue_server.hub import Hub
from taskqueue_server.patience import in_time

#: How long an answer is used again.
MAX_AGE_SECONDS: Final = 1.0
#: Longer than a healthy broker takes, shorter than the patience of those who probe.
_PROBE_SECONDS: Final = 2.0
#: The part of a limit from which on it is said to be near.
_NEAR: Final = 0.9

Check = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the broker and this process say, to be judged."""

    stats: QueueStats
    survey: Survey
    workers: Sequence[WorkerState]
    servers: Sequence[ServerState]
    event_lag: int
    max_backlog: int
    max_events: int
    names_types: bool


class Health:
    """The health of one server process and of its broker."""

    def __init__(
        self, broker: Broker, hub: Hub, clock: Callable[[], float], *, names_types: bool
    ) -> None:
        self._broker = broker
        self._hub = hub
        self._names_types = names_types
        self._is_prepared = False
        self._is_stopping = False
        self._answers = _Recent(self._ask, clock)
        self._judgement = _Recent(self._look, clock)

    def prepared(self) -> None:
        """Note that the broker is fit for use, and the namespace claimed."""
        self._is_prepared = True

    def stop(self) -> None:
        """Note that this process is stopping: it should be sent nothing any more."""
        self._is_stopping = True

    async def obstacle(self) -> str:
        """Return why this process cannot do its work now; empty when it can."""
        if self._is_stopping:
            return "this server is stopping"
        if not await self._answers.get():
            return "the broker cannot be reached"
        if not self._is_prepared:
            return "the broker is not prepared yet; if that lasts, the server's log says why"
        return ""

    async def checks(self) -> dict[str, Check] | None:
        """Return what was looked at, by name; ``None`` when the broker does not answer."""
        if not await self._answers.get():
            return None
        judgement = await self._judgement.get()
        if judgement is None:
            return {"broker": _warn("a part of the broker does not answer")}
        if self._is_prepared:
            broker = _ok("the broker answers")
        else:
            broker = _warn("the broker answers, but is not prepared yet")
        return {"broker": broker, **judgement}

    async def _ask(self) -> bool:
        return await in_time(self._ping(), _PROBE_SECONDS) or False

    async def _ping(self) -> bool:
        await self._broker.ping()
        return True

    async def _look(self) -> dict[str, Check] | None:
        found = await in_time(self._read(), _PROBE_SECONDS)
        return None if found is None else judge(found)

    async def _read(self) -> Findings:
        read, settings = self._broker.inspection, self._broker.settings
        return Findings(
            stats=await read.queue_stats(),
            survey=await read.survey(),
            workers=await read.workers(),
            servers=await read.servers(),
            event_lag=await self._hub.measure_lag(),
            max_backlog=settings.queue.max_queue_size,
            max_events=settings.events.max_length,
            names_types=self._names_types,
        )


class _Recent(Generic[T]):
    """An answer that is used again for a while, and asked for once at a time."""

    def __init__(self, read: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._valid_until = -math.inf
        self._reading = asyncio.Lock()

    async def get(self) -> T:
        """Return the answer, a new one if there is none that is recent."""
        async with self._reading:
            if self._clock() >= self._valid_until:
                self._value = await self._read()
                self._valid_until = self._clock() + MAX_AGE_SECONDS
            return self._value


def judge(found: Findings) -> dict[str, Check]:
    """Return the checks of what was found: ``ok``, or ``warn`` with what is wrong."""
    return {
        "persistence": _judge_persistence(found.servers),
        "memory": _judge_memory(found.servers),
        "workers": _judge_workers(found),
        "backlog": _judge_backlog(found.stats.backlog, found.max_backlog),
        "events": _judge_events(found.event_lag, found.max_events),
    }


def _ok(message: str, **more: Any) -> Check:
    return {"status": "ok", "message": message, **more}


def _warn(message: str, **more: Any) -> Check:
    return {"status": "warn", "message": message, **more}


def _judge_persistence(servers: Sequence[ServerState]) -> Check:
    if not all(server.has_log for server in servers):
        return _warn("Redis has no append-only file: a restart of it loses tasks")
    if not all(server.can_write_log for server in servers):
        return _warn("Redis cannot write its append-only file")
    return _ok("Redis writes an append-only file")


def _judge_memory(servers: Sequence[ServerState]) -> Check:
    used = [server.used_bytes / server.max_bytes for server in servers if server.max_bytes]
    if not used:
        return _ok("Redis has no maxmemory")
    message = f"Redis uses {max(used):.0%} of its maxmemory"
    if max(used) >= _NEAR:
        return _warn(f"{message}; when it is full, submissions are refused")
    return _ok(message)


def _judge_workers(found: Findings) -> Check:
    no_worker = Coverage(found.workers).find_unserved(found.survey)
    numbers: Check = {"live": len(found.workers), "no_worker": no_worker.tasks}
    if no_worker.tasks:
        if found.names_types:
            numbers |= {"types": list(no_worker.types), "queues": list(no_worker.queues)}
        least = "" if found.survey.is_complete else "at least "
        count = f"{least}{no_worker.tasks}"
        return _warn(f"no live worker takes the type or queue of {count} waiting tasks", **numbers)
    is_waiting = bool(found.survey.waiting or found.survey.held)
    states = {worker.state for worker in found.workers} - {"shutting_down"}
    if is_waiting and states == {"paused"}:
        return _warn("tasks wait and every live worker that may take them is paused", **numbers)
    return _ok("every waiting task has a live worker that takes it", **numbers)


def _judge_backlog(tasks: int, limit: int) -> Check:
    numbers = {"tasks": tasks, "limit": limit}
    if tasks >= _NEAR * limit:
        message = "the backlog is near queue.maxqueuesize; beyond it submissions are refused"
        return _warn(message, **numbers)
    return _ok("there is room for more tasks", **numbers)


def _judge_events(lag: int, kept: int) -> Check:
    # What is behind by all that is kept loses events.
    if lag > kept / 2:
        return _warn("this server is far behind the events; listeners may miss some", lag=lag)
    return _ok("this server follows the events", lag=lag)
