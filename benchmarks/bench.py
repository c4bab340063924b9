"""Measure this system on this machine: ``make bench``.

Prints a table with units and writes everything, machine and versions included, to
``build/bench.json``. The exit code is 1 when a figure could not be taken honestly, when the drain
at concurrency 100 is slower than ``--require``, when a WebSocket client is cut off or has events
that it cannot account for, or when a deep queue costs more than ``--page-ms`` and ``--ratio``
allow. Figures move with the machine's other load: compare those of one run, not of two machines.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop
from crowd import measure_crowd
from deep import Depth, measure_deep
from drain import measure_drain, measure_retention
from http_load import measure_http
from machine import describe_machine
from pickup import measure_pickup
from report import Report
from rig import BenchError, Rig

from taskqueue_core.broker.embedded import EmbeddedBroker

_PARTS = ("drain", "retention", "pickup", "http", "crowd", "deep")
_OUTPUT = Path(__file__).parents[1] / "build" / "bench.json"


def read_arguments() -> argparse.Namespace:
    """Return the command line's choices; ``--quick`` only changes their defaults."""
    parser = argparse.ArgumentParser(description="Measure speed and memory on this machine.")
    parser.add_argument("--only", choices=_PARTS, action="append", help="measure this part alone")
    parser.add_argument("--quick", action="store_true", help="small sizes: a check, no measurement")
    parser.add_argument("--tasks", type=int, help="tasks of a drain (20 000)")
    parser.add_argument("--repeat", type=int, help="drains per concurrency (3)")
    parser.add_argument("--seconds", type=float, help="duration of each HTTP measurement (3)")
    parser.add_argument("--connections", default="1,16,64", help="HTTP connections (1,16,64)")
    parser.add_argument(
        "--require", type=float, default=10_000, help="least tasks/s at concurrency 100 (10 000)"
    )
    parser.add_argument("--queued", type=int, help="tasks of the deep queue (1 000 000)")
    parser.add_argument(
        "--page-ms", type=float, default=50, help="most ms of a page over it, p99 (50)"
    )
    parser.add_argument(
        "--ratio", type=float, default=2, help="most times as long as without it, p99 (2)"
    )
    parser.add_argument("--output", type=Path, default=_OUTPUT, help="where the JSON goes")
    chosen = parser.parse_args()
    tasks, repeat, seconds, chosen.pickups, chosen.clients = (
        (1_000, 1, 0.3, 25, 20) if chosen.quick else (20_000, 3, 3, 500, 100)
    )
    queued, dead, times = (2_000, 200, 5) if chosen.quick else (1_000_000, 20_000, 100)
    chosen.depth = Depth(
        tasks=chosen.queued or queued,
        dead=dead,
        times=times,
        most_ms=chosen.page_ms,
        most_ratio=chosen.ratio,
    )
    chosen.tasks = chosen.tasks or tasks
    chosen.repeat = chosen.repeat or repeat
    chosen.seconds = chosen.seconds or seconds
    return chosen


async def measure(chosen: argparse.Namespace, report: Report, directory: Path, url: str) -> None:
    """Take the chosen figures, one after the other."""
    bench = Rig(directory, url)
    parts = chosen.only or _PARTS
    if "drain" in parts:
        for concurrency in (100, 10):
            await measure_drain(
                bench, report, tasks=chosen.tasks, concurrency=concurrency, repeat=chosen.repeat
            )
    if "retention" in parts:
        await measure_retention(bench, report, tasks=chosen.tasks)
    if "pickup" in parts:
        await measure_pickup(bench, report, directory, tasks=chosen.pickups)
    if "http" in parts:
        connections = [int(count) for count in chosen.connections.split(",")]
        await measure_http(bench, report, seconds=chosen.seconds, connections=connections)
    if "crowd" in parts:
        await measure_crowd(bench, report, tasks=chosen.tasks, clients=chosen.clients)
    if "deep" in parts:
        await measure_deep(bench, report, directory, chosen.depth)


def main() -> int:
    """Measure, report, and return the exit code."""
    chosen = read_arguments()
    report = Report(describe_machine())
    with tempfile.TemporaryDirectory(prefix="taskqueue-bench-") as name:
        directory = Path(name)
        with EmbeddedBroker(directory) as broker:
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(measure(chosen, report, directory, broker.url))
            except BenchError as error:
                report.show()
                log = directory / "processes.log"
                lines = log.read_text(errors="replace").splitlines() if log.exists() else []
                print("\n".join(["", f"bench: {error}", *lines[-10:]]), file=sys.stderr)
                return 1
    report.show()
    report.write(chosen.output)
    print(f"\nAll of it is in {chosen.output}")
    speed = report.find("concurrency 100", "speed")
    if speed is not None and speed < chosen.require:
        report.violations.append(f"{speed:.0f} tasks/s, {chosen.require:.0f} are required")
    for violation in report.violations:
        print(f"bench: {violation}", file=sys.stderr)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
