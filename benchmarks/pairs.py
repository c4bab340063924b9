"""Submissions and fetches beside an empty and a deep queue, in turn: both get the same weather."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence

import rig
from report import Report, percentile
from rig import BenchError

from taskqueue_core.broker import Broker
from taskqueue_core.models import Delivery, NewTask, Outcome, OutcomeKind, Priority

QUEUES = ("default", "bulk")
#: As often the measurement is repeated; what counts is the median of the ratios.
_ROUNDS = 5
_INSTANCE = "bench"


class Side:
    """One of the two: a broker, and a worker at it that takes what is asked for."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._session = broker.session(rig.WORKER_ID, _INSTANCE)
        self._requests = itertools.count(1)
        keys = broker.partitions[0]
        self._streams = [
            keys.stream(queue, priority) for priority in (3, 2, 1, 0) for queue in QUEUES
        ]

    async def register(self) -> None:
        """Be a live worker, for the time of one lease."""
        await self._session.register(concurrency=100, version="bench", handlers={})

    async def open_queues(self) -> None:
        """Have all queues that are fetched from."""
        tasks = [
            NewTask(id=self._broker.new_task_id(), type="echo", queue=queue) for queue in QUEUES
        ]
        await rig.submit_tasks(self._broker, tasks)
        await self.end(await self.fetch(len(QUEUES)))

    async def submit(self) -> None:
        """Submit one minimal task, of the highest priority."""
        task = NewTask(id=self._broker.new_task_id(), type="echo", priority=Priority.CRITICAL)
        await self._broker.submit(task)

    async def fetch(self, wanted: int) -> Sequence[Delivery]:
        """Take so many tasks, which must be there."""
        fetched = await self._session.fetch(
            wanted, streams=self._streams, request=next(self._requests)
        )
        if len(fetched.deliveries) != wanted:
            raise BenchError(f"{len(fetched.deliveries)} tasks were fetched, not {wanted}")
        return fetched.deliveries

    async def end(
        self,
        deliveries: Sequence[Delivery],
        kind: OutcomeKind = OutcomeKind.COMPLETE,
        value: bytes = b"{}",
    ) -> None:
        """Tell what became of tasks."""
        outcomes = [
            Outcome(delivery=one, kind=kind, value=value, max_retries=0) for one in deliveries
        ]
        tell = self._session.complete if kind is OutcomeKind.COMPLETE else self._session.fail
        await tell(outcomes)

    async def submit_and_fetch_ms(self) -> tuple[float, float]:
        """Submit a task and fetch one; how long either took."""
        started = time.perf_counter()
        await self.submit()
        submitted = time.perf_counter()
        deliveries = await self.fetch(1)
        fetched = time.perf_counter()
        await self.end(deliveries)
        return (submitted - started) * 1000, (fetched - submitted) * 1000


async def measure_pairs(
    report: Report, empty: Broker, deep: Broker, *, times: int, most_ratio: float
) -> None:
    """Compare single submissions and fetches; ``times`` of each side and round."""
    sides = Side(empty), Side(deep)
    await sides[0].register()
    await sides[0].open_queues()
    p99: dict[str, list[list[float]]] = {"submit": [[], []], "fetch": [[], []]}
    for _ in range(_ROUNDS):
        for side in sides:
            await side.register()
        taken: list[list[tuple[float, float]]] = [[], []]
        for number in range(times):
            for at in (number % 2, 1 - number % 2):
                taken[at].append(await sides[at].submit_and_fetch_ms())
        for at in (0, 1):
            for times_ms, name in zip(zip(*taken[at], strict=True), p99, strict=True):
                p99[name][at].append(percentile(times_ms, 99))
    for name, (of_empty, of_deep) in p99.items():
        ratios = [two / one for one, two in zip(of_empty, of_deep, strict=True)]
        report.add(
            f"Beside an empty and a deep queue in turn, p99 of {_ROUNDS} rounds of {times}",
            name,
            {
                ("empty", "ms"): of_empty,
                ("deep", "ms"): of_deep,
                ("ratio", ""): ratios,
            },
        )
        report.limit(f"{name} p99, deep to empty", statistics.median(ratios), most_ratio, "times")
