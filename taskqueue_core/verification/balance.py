"""The report of a run as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from taskqueue_core.states import TaskState
from taskqueue_core.verification import oracle
from taskqueue_core.verification.faults import OF_BROKER
from taskqueue_core.verification.run import Report


def rows(report: Report) -> Iterator[tuple[str, str]]:
    """Yield what was counted and how much it is."""
    evidence, tally = report.evidence, report.tally
    states = Counter(task.state for task in evidence.tasks.values())
    starts = [start for entries in evidence.starts.values() for start in entries]
    waits = oracle.redeliveries(evidence)
    yield "seed", str(report.plan.seed)
    yield "tasks accepted (201)", str(len(tally.accepted))
    yield "tasks whose 201 was lost", str(len(evidence.tasks.keys() - evidence.accepted.keys()))
    yield "submissions refused (503)", str(tally.refused)
    yield "submissions unanswered", str(tally.unanswered)
    yield "slowest answer (s)", f"{tally.slowest_seconds:.1f}"
    yield "completed", str(states[TaskState.COMPLETED])
    yield "dead letters (planned)", str(states[TaskState.DEAD_LETTER])
    yield "starts", str(len(starts))
    yield "starts beyond the first", str(len(starts) - len(evidence.starts))
    for kind, count in sorted(Counter(one.kind for one in report.incidents).items()):
        yield kind, str(count)
    yield "lost leases", str(evidence.stats.get("lost", 0))
    yield "stale outcomes refused", str(evidence.stats.get("stale", 0))
    yield "handlers that ended too late", str(len(list(oracle.zombies(evidence))))
    yield "tasks of killed workers run again", str(len(waits))
    for percent in (50, 99):
        yield f"redelivery p{percent} (ms)", f"{oracle.percentile(waits, percent) * 1000:.0f}"
    returns = [seconds for _, seconds in oracle.resumptions(evidence)]
    slowest = max(returns, default=0.0)
    absences = sum(one.kind in OF_BROKER for one in report.incidents)
    yield "returns to work (starts, 201s)", f"{len(returns)} of {2 * absences}"
    yield "slowest return to work (s)", f"{slowest:.1f}"
    most = max(map(oracle.lines_a_minute, evidence.lines.values()), default=0)
    yield "most log lines a minute of a process", str(most)
    yield "violations", str(len(report.violations))


def render(report: Report) -> str:
    """Return the balance, and the violations below it."""
    table = list(rows(report))
    width = max(len(name) for name, _ in table)
    text = [f"{name.ljust(width)}  {value:>8}" for name, value in table]
    return "\n".join([*text, *(f"violation: {one}" for one in report.violations)])
