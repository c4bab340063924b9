"""How fast one worker process empties a full queue, what a task costs, and what is left of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import rig
from machine import cpu_seconds, resident_mib
from report import Report
from rig import BenchError, Rig

_WARM_UP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """One drain: rates and costs per task."""

    tasks_per_second: float
    worker_us: float
    broker_us: float
    queued_bytes: float
    finished_bytes: float
    worker_mib: float


async def measure_drain(
    bench: Rig, report: Report, *, tasks: int, concurrency: int, repeat: int
) -> None:
    """Drain ``tasks`` queued echo tasks ``repeat`` times."""
    runs = []
    for number in range(1, repeat + 1):
        report.progress(f"drain of {tasks} tasks, concurrency {concurrency}: {number} of {repeat}")
        runs.append(await _drain(bench, f"drain{concurrency}-{number}", tasks, concurrency))
    report.add(
        f"Drain of {tasks} echo tasks by one worker process, embedded broker with AOF",
        f"concurrency {concurrency}",
        {
            ("speed", "tasks/s"): [run.tasks_per_second for run in runs],
            ("worker CPU", "us/task"): [run.worker_us for run in runs],
            ("broker CPU", "us/task"): [run.broker_us for run in runs],
            ("worker RSS", "MiB"): [run.worker_mib for run in runs],
        },
    )
    report.add(
        "Memory of the broker without the event stream, minimal echo tasks",
        f"concurrency {concurrency}",
        {
            ("queued", "B/task"): [run.queued_bytes for run in runs],
            ("finished", "B/task"): [run.finished_bytes for run in runs],
        },
    )


async def _drain(bench: Rig, namespace: str, tasks: int, concurrency: int) -> Drain:
    settings = bench.settings(namespace, concurrency=concurrency)
    async with bench.broker(settings) as broker, bench.worker(broker) as pid:
        await rig.submit(broker, _WARM_UP)
        await rig.run_to_the_end(broker)
        await broker.pause(rig.WORKER_ID)
        empty = await rig.task_memory_bytes(broker)
        await rig.submit(broker, tasks)
        queued = await rig.task_memory_bytes(broker)
        worker_cpu, broker_cpu = cpu_seconds(pid), await rig.broker_cpu_seconds(broker)
        started = time.perf_counter()
        await broker.resume(rig.WORKER_ID)
        await rig.run_to_the_end(broker)
        seconds = time.perf_counter() - started
        worker_cpu = cpu_seconds(pid) - worker_cpu
        broker_cpu = await rig.broker_cpu_seconds(broker) - broker_cpu
        finished = await rig.task_memory_bytes(broker)
        completed = int(await broker.redis.zcard(broker.partitions[0].done))
        if completed != tasks + _WARM_UP:
            raise BenchError(f"{completed} tasks were completed, not {tasks + _WARM_UP}")
        return Drain(
            tasks_per_second=tasks / seconds,
            worker_us=worker_cpu / tasks * 1e6,
            broker_us=broker_cpu / tasks * 1e6,
            queued_bytes=(queued - empty) / tasks,
            finished_bytes=(finished - empty) / tasks,
            worker_mib=resident_mib(pid),
        )


async def measure_retention(bench: Rig, report: Report, *, tasks: int) -> None:
    """Let finished tasks expire at once: nothing of them may stay."""
    report.progress(f"retention of {tasks} tasks")
    settings = bench.settings("retention", concurrency=100, retention_seconds=0.5)
    async with bench.broker(settings) as broker, bench.worker(broker):

        async def is_empty() -> bool:
            # The worker deletes too, but looks only every ten seconds.
            await broker.retain()
            return await broker.redis.zcard(broker.partitions[0].done) == 0

        async def run(count: int) -> None:
            await rig.submit(broker, count)
            await rig.run_to_the_end(broker)

        # The first tasks make the fixed keys: counters, the stream of the queue, its bell.
        await run(_WARM_UP)
        await rig.until(is_empty, "the first tasks did not expire")
        before = await rig.key_names(broker)
        await run(tasks)
        most = len(await rig.key_names(broker))
        await rig.until(is_empty, "the tasks did not expire")
        after = await rig.key_names(broker)
    keys = {("before", "keys"): [len(before)], ("with them", "keys"): [most]}
    report.add(
        "Keys around tasks that are kept for half a second, event stream apart",
        f"{tasks} tasks",
        {**keys, ("after retention", "keys"): [len(after)]},
    )
    if left := after - before:
        raise BenchError(f"{len(left)} keys are left after retention, such as {min(left)}")
