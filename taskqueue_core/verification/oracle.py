"""Judge a run by what was accepted, what was run, what was done to the system, and what is stored.

Every rule is a function from the evidence to violations, a sentence each. Nothing here looks at a
running system, so that each rule can be tried with evidence made by hand.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import msgspec

from taskqueue_core.events import Event
from taskqueue_core.models import Task
from taskqueue_core.states import TERMINAL, TaskState
from taskqueue_core.verification.faults import BROKER, OF_BROKER, Incident, Kind
from taskqueue_core.verification.ledger import Entry, Work

#: Seconds in which work goes on after a broker is back.
RESUME_SECONDS = 5.0
#: Most log lines a minute and process.
LINES_A_MINUTE = 5
#: Beyond the lease, in seconds, for a task of a killed worker to run again.
REDELIVERY_SECONDS = 2.0
_ENDINGS = frozenset({"task.completed", "task.dead_letter", "task.cancelled"})


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known after a run. Times are ``time.monotonic`` unless their name says more."""

    accepted: Mapping[str, float]
    entries: Sequence[Entry]
    events: Sequence[Event]
    tasks: Mapping[str, Task]
    incidents: Sequence[Incident]
    stats: Mapping[str, int]
    lease_seconds: float
    submitted_until: float
    #: What to subtract from the seconds of the broker's clock.
    broker_offset: float = 0.0
    #: Beside what is allowed anyway: for machines that are busy with other things.
    slack_seconds: float = 0.0
    #: Process -> the times of its log lines, those of its start left out.
    lines: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: Process -> when it was ready to work.
    ready: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def starts(self) -> dict[str, list[Entry]]:
        """Task -> its starts, in the order of their fences."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            if entry.what == "start":
                found[entry.task_id].append(entry)
        for entries in found.values():
            entries.sort(key=lambda entry: (entry.fence, entry.at))
        return found

    @cached_property
    def takeovers(self) -> dict[str, list[float]]:
        """Task -> when it was handed to another worker because its lease had run out."""
        found: dict[str, list[float]] = defaultdict(list)
        for event in self.events:
            if event.type == "task.recovered":
                at = event.timestamp_ms / 1000 - self.broker_offset
                found[event.data["task_id"]].append(at)
        return found

    @cached_property
    def ends(self) -> set[tuple[str, int]]:
        """Task and fence of every handler that came to its end."""
        return {(entry.task_id, entry.fence) for entry in self.entries if entry.what == "end"}

    @cached_property
    def deaths(self) -> dict[str, float]:
        """Process -> when it was killed."""
        kinds = (Kind.WORKER_KILL, Kind.SERVER_KILL)
        return {one.who: one.began for one in self.incidents if one.kind in kinds}

    def is_served(self, began: float, ended: float) -> bool:
        """Whether a server and a worker were ready, and left in peace, between two times."""
        well = {
            name.partition("-")[0]
            for name, at in self.ready.items()
            if at <= began
            and self.deaths.get(name, ended) >= ended
            and not self.disturbed(name, began, ended)
        }
        return well >= {"server", "worker"}

    def disturbed(self, who: str, began: float, ended: float) -> bool:
        """Whether something was done to a process between two times."""
        return any(
            one.who == who and one.began <= ended and one.ended >= began for one in self.incidents
        )


def judge(evidence: Evidence) -> list[str]:
    """Return everything that should not be."""
    return [violation for rule in RULES for violation in rule(evidence)]


def lost(evidence: Evidence) -> Iterator[str]:
    """Whatever was accepted is there."""
    for task_id in evidence.accepted:
        if task_id not in evidence.tasks:
            yield f"task {task_id} was accepted and is lost"


def stuck(evidence: Evidence) -> Iterator[str]:
    """Every task, also one whose acceptance nobody heard of, has ended."""
    for task in evidence.tasks.values():
        if task.state not in TERMINAL:
            yield f"task {task.id} is stuck: {task.state} after {task.deliveries} deliveries"


def wrong_ending(evidence: Evidence) -> Iterator[str]:
    """Every task has ended in the state that it was submitted for."""
    for task in evidence.tasks.values():
        expected = msgspec.json.decode(task.metadata)["expected"]
        if task.state in TERMINAL and task.state != expected:
            why = f"{task.reason} {task.error}".strip()
            yield f"task {task.id} ended as {task.state} instead of {expected}: {why}"


def ended_twice(evidence: Evidence) -> Iterator[str]:
    """The event stream has one ending for each task."""
    endings: Counter[str] = Counter()
    for event in evidence.events:
        if event.type in _ENDINGS:
            endings[event.data["task_id"]] += 1
    for task_id in evidence.tasks:
        if endings[task_id] != 1:
            yield f"task {task_id} has {endings[task_id]} endings in the event stream"


def gaps(evidence: Evidence) -> Iterator[str]:
    """No event is missing, and the last one of each task names its state."""
    states: dict[str, str] = {}
    for event in evidence.events:
        if event.type == "events.gap":
            yield f"{event.data['missed']} events are missing before number {event.sequence}"
        elif "task_id" in event.data:
            states[event.data["task_id"]] = event.data["state"]
    for task in evidence.tasks.values():
        if states.get(task.id) != task.state:
            yield f"task {task.id} is {task.state}, by its events {states.get(task.id)}"


def fence_reused(evidence: Evidence) -> Iterator[str]:
    """No delivery was run twice."""
    for task_id, starts in evidence.starts.items():
        for fence, count in Counter(start.fence for start in starts).items():
            if count > 1:
                yield f"task {task_id} was started {count} times with fence {fence}"


def unexplained_start(evidence: Evidence) -> Iterator[str]:
    """A task runs again only when its attempt failed, or something befell its worker.

    That the broker was away is no reason: its tasks stay with their workers.
    """
    for task_id, starts in evidence.starts.items():
        task = evidence.tasks.get(task_id)
        if task is None:
            yield f"task {task_id} was run and does not exist"
            continue
        unexplained = [
            (first, then)
            for first, then in pairwise(starts)
            if not evidence.disturbed(first.member, _kept_from(evidence, first, then), then.at)
        ]
        allowed = _planned_failures(task)
        if len(unexplained) > allowed:
            shown = ", ".join(
                f"fence {first.fence} of {first.member}, {then.at - first.at:.1f} s before the next"
                for first, then in unexplained
            )
            yield f"task {task_id} ran again without a cause ({allowed} failures planned): {shown}"


def _kept_from(evidence: Evidence, first: Entry, then: Entry) -> float:
    """Return since when a worker must have been well to keep a task that another one has started.

    Thawed, it may begin what it was given before, and lost a lease ago.
    """
    return first.at if first.at <= then.at else then.at - evidence.lease_seconds


def _planned_failures(task: Task) -> int:
    work = msgspec.json.decode(task.payload, type=Work)
    return min(work.failures, task.max_retries or 0)


def foreign_result(evidence: Evidence) -> Iterator[str]:
    """A completed task has the result of its last delivery, whose handler came to its end."""
    for task in evidence.tasks.values():
        if task.state is not TaskState.COMPLETED:
            continue
        fence = int(msgspec.json.decode(task.result))
        if fence != task.deliveries:
            yield f"task {task.id} has the result of delivery {fence} of {task.deliveries}"
        if (task.id, fence) not in evidence.ends:
            yield f"task {task.id} is completed, but delivery {fence} never came to its end"


def late_redelivery(evidence: Evidence) -> Iterator[str]:
    """The tasks of a killed worker run again within the lease and two seconds, 99 of 100."""
    waits = redeliveries(evidence)
    limit = evidence.lease_seconds + REDELIVERY_SECONDS + evidence.slack_seconds
    if waits and percentile(waits, 99) > limit:
        yield (
            f"redelivery after the death of a worker took {percentile(waits, 99):.1f} s at the "
            f"99th percentile, {limit:.1f} s are allowed"
        )


def redeliveries(evidence: Evidence) -> list[float]:
    """Return the seconds from the death of a worker until what it was running has a new one.

    Those in which the broker was away meanwhile are left out: leases are extended then.
    """
    waits = []
    for task_id, starts in evidence.starts.items():
        for first, then in pairwise(starts):
            died = evidence.deaths.get(first.member)
            is_over = (task_id, first.fence) in evidence.ends
            if died is None or not first.at <= died <= then.at or is_over:
                continue
            if not evidence.disturbed(BROKER, died, then.at):
                # The next start itself may take longer: such a task runs in a process of its own.
                takeovers = evidence.takeovers.get(task_id, [])
                handed = [at for at in takeovers if died <= at <= then.at]
                waits.append(min(handed, default=then.at) - died)
    return sorted(waits)


def slow_return(evidence: Evidence) -> Iterator[str]:
    """Work goes on, and submissions are accepted, within five seconds of the broker's return.

    That is promised by processes that are there: how long others take to start is not the broker's.
    """
    limit = RESUME_SECONDS + evidence.slack_seconds
    for what, seconds in resumptions(evidence):
        if seconds > limit:
            yield f"{what} {seconds:.1f} s after the broker's return, {limit:.1f} s are allowed"


def resumptions(evidence: Evidence) -> list[tuple[str, float]]:
    """Return what went on how many seconds after each absence of the broker.

    Where nothing did, it is the seconds until submissions ended. What took more than five seconds
    is left out when the next absence came earlier, or there was no worker or no server, all ready
    and undisturbed, in the five.
    """
    found = []
    absences = sorted(
        (one for one in evidence.incidents if one.kind in OF_BROKER), key=lambda one: one.began
    )
    following = [*(one.began for one in absences[1:]), float("inf")]
    began = sorted(entry.at for entry in evidence.entries if entry.what == "start")
    accepted = sorted(evidence.accepted.values())
    for one, next_began in zip(absences, following, strict=False):
        for what, times in (("the first start", began), ("the first 201", accepted)):
            at = _first_after(times, one.ended, evidence.submitted_until)
            limit = one.ended + RESUME_SECONDS
            if at <= limit or (limit < next_began and evidence.is_served(one.ended, limit)):
                found.append((f"{one.kind}: {what}", max(0.0, at - one.ended)))
    return found


def _first_after(times: Sequence[float], moment: float, otherwise: float) -> float:
    return next((at for at in times if at >= moment), otherwise)


def noisy(evidence: Evidence) -> Iterator[str]:
    """No process writes more than five log lines in any minute."""
    for name, times in evidence.lines.items():
        if (most := lines_a_minute(times)) > LINES_A_MINUTE:
            yield f"{name} wrote {most} log lines within a minute, {LINES_A_MINUTE} are allowed"


def lines_a_minute(times: Sequence[float]) -> int:
    """Return the most lines of any minute; ``times`` are in order."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 60.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def uncounted_stale(evidence: Evidence) -> Iterator[str]:
    """Outcomes of workers that had lost the task were refused and counted."""
    late = sum(1 for _ in zombies(evidence))
    if late and not evidence.stats.get("stale"):
        yield f"{late} handlers ended after their task was somebody else's; no stale outcome"


def zombies(evidence: Evidence) -> Iterator[Entry]:
    """Yield the ends of handlers whose task had already been started by somebody else."""
    for entry in evidence.entries:
        if entry.what == "end":
            starts = evidence.starts.get(entry.task_id, [])
            if any(one.fence > entry.fence and one.at < entry.at for one in starts):
                yield entry


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of sorted values; 0 when there are none."""
    if not values:
        return 0.0
    return values[min(len(values) - 1, len(values) * percent // 100)]


RULES = (
    lost,
    stuck,
    wrong_ending,
    ended_twice,
    gaps,
    fence_reused,
    unexplained_start,
    foreign_result,
    late_redelivery,
    slow_return,
    noisy,
    uncounted_stale,
)
