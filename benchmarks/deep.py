"""What a queue of a million tasks costs: pages over HTTP, submissions, fetches, scripts, memory.

It has a broker of its own; what it is compared with is the other one, which is empty.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rig
from pages import measure_pages
from pairs import Side, measure_pairs
from report import Report
from rig import Rig

from taskqueue_core.broker import Broker
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.broker.scripts import PARTS, Limits, assemble
from taskqueue_core.models import NewTask, OutcomeKind, Priority

#: Of ten tasks each; most are of normal priority.
_PRIORITIES = (1, 1, 1, 1, 0, 2, 1, 3, 1, 1)
_CHUNK = 1_000
#: When scheduled tasks are due: long after the measurement.
_LATER_MS = 10**13
#: A script that takes longer than the first is noted, longer than the second is long.
_NOTED_US, _LONG_US = 1_000, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How much is measured, and what is allowed: ms of a page, times as long as without a queue."""

    tasks: int
    dead: int
    times: int
    most_ms: float
    most_ratio: float


async def measure_deep(empty: Rig, report: Report, directory: Path, depth: Depth) -> None:
    """Queue many tasks, then measure; what takes too long is a violation in the report."""
    with EmbeddedBroker(directory / "deep") as own:
        rig_of_deep = Rig(directory, own.url)
        settings = rig_of_deep.settings("deep")
        async with (
            empty.broker(empty.settings("empty")) as shallow,
            rig_of_deep.broker(settings, clears=False) as deep,
        ):
            report.progress(f"filling a queue with {depth.tasks} tasks")
            await _fill_places(deep, depth)
            middle_ms = await _fill_queue(deep, report, depth.tasks)
            await _note_slow_scripts(deep)
            report.progress(f"submissions and fetches, {4 * depth.times} in each of five rounds")
            await measure_pairs(
                report, shallow, deep, times=4 * depth.times, most_ratio=depth.most_ratio
            )
            with rig_of_deep.server(settings) as (_, port):
                report.progress(f"pages, {depth.times} of each kind")
                measure_pages(report, port, middle_ms, times=depth.times, most_ms=depth.most_ms)
            await _report_slow_scripts(deep, report)


async def _fill_places(broker: Broker, depth: Depth) -> None:
    """Make dead letters, running and scheduled tasks."""
    side = Side(broker)
    for number in range(depth.dead // 100):
        # A registration is good for one lease.
        await side.register()
        await rig.submit(broker, 100, "doomed")
        error = b"host %d did not answer, though it was asked again and again and again" % number
        await side.end(await side.fetch(100), OutcomeKind.FAIL, error)
    await side.open_queues()
    await rig.submit(broker, 300)
    for _ in range(3):
        await side.fetch(100)
    later = [
        NewTask(id=broker.new_task_id(), type="echo", scheduled_at_ms=_LATER_MS + number)
        for number in range(_CHUNK)
    ]
    await rig.submit_tasks(broker, later)


async def _fill_queue(broker: Broker, report: Report, tasks: int) -> int:
    """Queue tasks of all priorities; the time in ms at which half of them were there."""
    before = await rig.task_memory_bytes(broker)
    kinds = _kinds(broker)
    created = []
    for start in range(0, tasks, _CHUNK):
        chunk = list(itertools.islice(kinds, min(_CHUNK, tasks - start)))
        created.append((await rig.submit_tasks(broker, chunk))[0].created_at_ms)
    after = await rig.task_memory_bytes(broker)
    report.add(
        "Memory of the broker without the event stream",
        f"{tasks} tasks with metadata, each tenth with 300 bytes",
        {("queued", "B/task"): [(after - before) / tasks]},
    )

    async def is_settled() -> bool:
        info = await broker.redis.info("persistence")
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

    await rig.until(is_settled, "the broker did not end rewriting its log")
    return created[len(created) // 2]


def _kinds(broker: Broker) -> Iterator[NewTask]:
    """Yield tasks without end: one of ten is large and in a queue of its own."""
    large = b'{"text":"%b"}' % (b"x" * 300)
    for number in itertools.count():
        is_large = number % 100 < 10
        yield NewTask(
            id=broker.new_task_id(),
            type="echo",
            queue="bulk" if is_large else "default",
            priority=Priority(_PRIORITIES[number % 10]),
            payload=large if is_large else b"{}",
            metadata=b'{"customer":"%d"}' % (number % 1_000),
        )


async def _note_slow_scripts(broker: Broker) -> None:
    await broker.redis.config_set("slowlog-log-slower-than", _NOTED_US)
    await broker.redis.config_set("slowlog-max-len", 10_000)
    await broker.redis.slowlog_reset()


async def _report_slow_scripts(broker: Broker, report: Report) -> None:
    limits = Limits.from_settings(broker.settings)
    names = {
        hashlib.sha1(assemble(name, limits).encode()).hexdigest().encode(): name for name in PARTS
    }
    took_us: dict[str, list[int]] = defaultdict(list)
    for entry in await broker.redis.slowlog_get(10_000):
        command: list[bytes] = entry["command"].split(b" ", 2)
        if command[0] == b"EVALSHA":
            took_us[names.get(command[1], "another")].append(entry["duration"])
    table = f"Calls of scripts that took over {_NOTED_US / 1000:g} ms meanwhile, waits included"
    took_us["all of them"] = [one for some in took_us.values() for one in some]
    for name, some in sorted(took_us.items()):
        report.add(
            table,
            name,
            {
                ("calls", ""): [len(some)],
                (f"over {_LONG_US / 1000:g} ms", ""): [sum(one > _LONG_US for one in some)],
                ("longest", "ms"): [max(some, default=0) / 1000],
            },
        )
