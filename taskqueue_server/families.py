"""The metrics of the whole fleet, from what the broker says of it.

Counters and histograms are those that the transitions and the workers keep; the label ``type`` is
one of a bounded number, and no other label is made of what clients send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from taskqueue_core import metrics as fields
from taskqueue_core.broker import Inspection
from taskqueue_core.models import Priority, QueueStats, Survey, WorkerState
from taskqueue_server.coverage import Coverage

PREFIX: Final = "taskqueue_"

_SECONDS: Final = tuple(milliseconds / 1000 for milliseconds in fields.BUCKETS_MS)


@dataclass(frozen=True, slots=True)
class _CounterSpec:
    """A fleet-wide counter: its field, its metric, the labels that the field ends with."""

    field: str
    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _HistogramSpec:
    """A fleet-wide histogram: the fields of its buckets and of its sum, and its one label."""

    field: str
    sum_field: str
    name: str
    help: str
    label: str


_COUNTERS: Final = (
    _CounterSpec(
        fields.SUBMITTED, "tasks_submitted_total", "Accepted submissions.", ("type", "priority")
    ),
    _CounterSpec(fields.FINISHED, "tasks_completed_total", "Tasks that ended.", ("type", "status")),
    _CounterSpec(
        fields.RETRYING,
        "tasks_retrying_total",
        "Failed attempts that are tried again by themselves.",
        ("type",),
    ),
    _CounterSpec(fields.RETRIED, "tasks_retries_total", "Tasks sent back by hand.", ("type",)),
    _CounterSpec(fields.SCHEDULED, "tasks_scheduled_total", "Submissions for a later time."),
    _CounterSpec(fields.DEAD_LETTERED, "dlq_added_total", "Tasks that became dead letters."),
    _CounterSpec(
        fields.STALE,
        "stale_outcomes_total",
        "Outcomes refused because the task had been given to another worker.",
    ),
    _CounterSpec(fields.LOST, "lost_leases_total", "Leases that ran out."),
    _CounterSpec(
        fields.RECOVERED,
        "orphan_claims_total",
        "Tasks taken over from a worker that lost its lease.",
    ),
    _CounterSpec(
        fields.ORPHANS,
        "orphan_entries_total",
        "Entries of streams and indexes that were removed for want of a task behind them.",
    ),
    _CounterSpec(
        fields.MISROUTED,
        "misrouted_total",
        "Deliveries to a worker that has no handler for the type.",
    ),
)
_HISTOGRAMS: Final = (
    _HistogramSpec(
        fields.DURATION,
        fields.DURATION_SUM,
        "task_duration_seconds",
        "Run time of attempts.",
        "type",
    ),
    _HistogramSpec(
        fields.WAIT,
        fields.WAIT_SUM,
        "queue_latency_seconds",
        "Time from queued to started.",
        "priority",
    ),
    _HistogramSpec(
        fields.RETRY_DELAY,
        fields.RETRY_DELAY_SUM,
        "retry_delay_seconds",
        "Waits before automatic retries.",
        "type",
    ),
)


def up_family(*, is_up: bool) -> Metric:
    """Return the metric that says whether the others of the fleet are there."""
    return GaugeMetricFamily(
        PREFIX + "broker_up", "1 while the broker answers.", value=float(is_up)
    )


async def read_families(inspection: Inspection) -> list[Metric]:
    """Return all metrics of the fleet; the broker is asked as often, however much waits."""
    stats = await inspection.stats()
    depths = await inspection.queue_stats()
    survey = await inspection.survey()
    workers = await inspection.workers()
    return [
        *_counter_families(stats),
        *_histogram_families(stats),
        *_depth_families(depths),
        *_waiting_families(survey, workers),
        *_worker_families(workers),
    ]


def _counter_families(stats: Mapping[str, int]) -> Iterator[Metric]:
    rows: dict[str, list[tuple[list[str], int]]] = defaultdict(list)
    for name, value in stats.items():
        field, *labels = name.split(":")
        rows[field].append((labels, value))
    for spec in _COUNTERS:
        family = CounterMetricFamily(PREFIX + spec.name, spec.help, labels=spec.labels)
        if not spec.labels:
            family.add_metric([], sum(value for _, value in rows[spec.field]))
        for labels, value in sorted(rows[spec.field]) if spec.labels else ():
            family.add_metric(_named(spec.labels, labels), value)
        yield family


def _named(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """Return label values for clients: a priority is a number in the counters, a name outside."""
    return [
        Priority(int(value)).label if name == "priority" else value
        for name, value in zip(names, values, strict=True)
    ]


def _histogram_families(stats: Mapping[str, int]) -> Iterator[Metric]:
    for spec in _HISTOGRAMS:
        buckets: dict[str, dict[int, int]] = defaultdict(dict)
        for name, value in stats.items():
            field, *labels = name.split(":")
            if field == spec.field:
                buckets[labels[0]][int(labels[1])] = value
        family = HistogramMetricFamily(PREFIX + spec.name, spec.help, labels=[spec.label])
        for label, counts in sorted(buckets.items()):
            total_ms = stats.get(fields.field(spec.sum_field, label), 0)
            family.add_metric(
                _named([spec.label], [label]), _cumulate(counts), sum_value=total_ms / 1000
            )
        yield family


def _cumulate(counts: Mapping[int, int]) -> list[tuple[str, float]]:
    """Return the counts of single buckets as Prometheus wants them: each with all before it."""
    bounds = [*(repr(seconds) for seconds in _SECONDS), "+Inf"]
    total = 0
    rows: list[tuple[str, float]] = []
    for index, bound in enumerate(bounds):
        total += counts.get(index, 0)
        rows.append((bound, float(total)))
    return rows


def _depth_families(stats: QueueStats) -> Iterator[Metric]:
    families = (
        GaugeMetricFamily(PREFIX + "queue_depth", "Tasks that wait or run.", labels=["priority"]),
        GaugeMetricFamily(PREFIX + "queue_backlog", "Tasks that wait.", labels=["priority"]),
        GaugeMetricFamily(PREFIX + "queue_pending_unacked", "Tasks that run.", labels=["priority"]),
        GaugeMetricFamily(
            PREFIX + "queue_paused", "1 while no task of it may start.", labels=["priority"]
        ),
    )
    for priority, depth in stats.depths.items():
        waiting = depth.queued - depth.pending_unacked
        values = (depth.queued, waiting, depth.pending_unacked, float(depth.is_paused))
        for family, value in zip(families, values, strict=True):
            family.add_metric([priority.label], value)
    yield from families
    yield GaugeMetricFamily(
        PREFIX + "scheduled_tasks", "Scheduled and retrying tasks.", value=stats.scheduled_count
    )
    yield GaugeMetricFamily(PREFIX + "dlq_size", "Dead letters.", value=stats.dead_letter_count)
    yield GaugeMetricFamily(
        PREFIX + "backlog_tasks", "Tasks that are not finished.", value=stats.backlog
    )


def _waiting_families(survey: Survey, workers: Sequence[WorkerState]) -> Iterator[Metric]:
    oldest = GaugeMetricFamily(
        PREFIX + "queue_oldest_waiting_seconds",
        "How long the oldest waiting task has waited, 0 without one.",
        labels=["priority"],
    )
    for priority, milliseconds in survey.oldest_ms.items():
        oldest.add_metric([priority.label], milliseconds / 1000)
    yield oldest
    yield GaugeMetricFamily(
        PREFIX + "no_worker_tasks",
        "Waiting tasks of a type or in a queue that no live worker takes.",
        value=Coverage(workers).find_unserved(survey).tasks,
    )


def _worker_families(workers: Sequence[WorkerState]) -> Iterator[Metric]:
    yield GaugeMetricFamily(PREFIX + "active_workers", "Live workers.", value=len(workers))
    active = GaugeMetricFamily(
        PREFIX + "worker_active_tasks", "Tasks a worker runs.", labels=["worker_id"]
    )
    slots = GaugeMetricFamily(
        PREFIX + "worker_concurrency", "Tasks a worker can run at once.", labels=["worker_id"]
    )
    busy = CounterMetricFamily(
        PREFIX + "worker_busy_seconds_total",
        "Time that slots of a worker had a task, all slots together.",
        labels=["worker_id"],
    )
    idle = CounterMetricFamily(
        PREFIX + "worker_idle_seconds_total",
        "Time that slots of a worker had none.",
        labels=["worker_id"],
    )
    for worker in workers:
        active.add_metric([worker.id], worker.active_tasks)
        slots.add_metric([worker.id], worker.concurrency)
        busy.add_metric([worker.id], worker.busy_seconds)
        idle.add_metric([worker.id], worker.idle_seconds)
    yield from (active, slots, busy, idle)
