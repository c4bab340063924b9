"""How long a task waits for an idle worker: from before its submission to its handler's start."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import rig
from report import Report, percentile
from rig import BenchError, Rig

from taskqueue_core.models import NewTask
from taskqueue_core.states import TaskState

_PROBE = Path(__file__).parent / "probe"
_PER_SECOND = 50


async def measure_pickup(bench: Rig, report: Report, directory: Path, *, tasks: int) -> None:
    """Submit tasks one by one, 50 a second, to a worker that has nothing else to do."""
    report.progress(f"pickup of {tasks} tasks at {_PER_SECOND}/s")
    path = [_PROBE, _make_distribution(directory)]
    async with (
        bench.broker(bench.settings("pickup")) as broker,
        bench.worker(broker, python_path=path),
    ):
        await rig.submit(broker, 50, "probe")
        await rig.run_to_the_end(broker)
        began: dict[str, int] = {}
        submit_ms = []
        start = time.monotonic()
        for number in range(tasks):
            await asyncio.sleep(max(0.0, start + number / _PER_SECOND - time.monotonic()))
            task_id = broker.new_task_id()
            began[task_id] = time.monotonic_ns()
            await broker.submit(NewTask(id=task_id, type="probe"))
            submit_ms.append((time.monotonic_ns() - began[task_id]) / 1e6)
        await rig.run_to_the_end(broker)
        pickup_ms = []
        for task_id, began_ns in began.items():
            task = await broker.inspection.get(task_id)
            if task.state is not TaskState.COMPLETED:
                raise BenchError(f"task {task_id} is {task.state}")
            pickup_ms.append((int(task.result) - began_ns) / 1e6)
    rows = {"submission to handler": pickup_ms, "of which the submit call": submit_ms}
    for row, times_ms in rows.items():
        percentiles = {(f"p{n}", "ms"): [percentile(times_ms, n)] for n in (50, 99)}
        report.add(f"Pickup by an idle worker, {tasks} tasks at {_PER_SECOND}/s", row, percentiles)


def _make_distribution(directory: Path) -> Path:
    """Install the probe for those who have the returned directory on their path."""
    place = directory / "probe"
    info = place / "taskqueue_bench_probe-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = "Metadata-Version: 2.1\nName: taskqueue-bench-probe\nVersion: 1\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    entry_points = "[taskqueue.plugins]\nprobe = taskqueue_bench_probe\n"
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    return place
