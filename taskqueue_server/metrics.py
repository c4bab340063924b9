"""Prometheus metrics: the fleet's, from the counters that the transitions keep, and the server's.

Names and labels are those of the system this one replaces, with the prefix ``taskqueue_``. Several
server processes count in files of one directory, so that each of them shows the sum.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from taskqueue_core import metrics as fields
from taskqueue_core.broker import Inspection
from taskqueue_core.errors import BrokerError
from taskqueue_core.models import Priority, QueueStats, WorkerState

#: Where the processes of one server count together; the client library reads it when imported.
SHARED_DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_PREFIX: Final = "taskqueue_"
_SECONDS: Final = tuple(milliseconds / 1000 for milliseconds in fields.BUCKETS_MS)
_HTTP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


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
    _CounterSpec(fields.RECOVERED, "tasks_recovered_total", "Tasks taken over from a lost lease."),
    _CounterSpec(
        fields.ORPHANS, "orphan_claims_total", "Stream entries without a waiting task behind them."
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


class ServerMetrics:
    """The metrics of this server, and the way to print them with the fleet's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "path", "status")
        self._requests = Counter(
            _PREFIX + "http_requests_total", "Answered requests.", labels, registry=self._registry
        )
        self._durations = Histogram(
            _PREFIX + "http_request_duration_seconds",
            "Time from request to answer.",
            labels,
            registry=self._registry,
            buckets=_HTTP_SECONDS,
        )
        self._connections = Gauge(
            _PREFIX + "websocket_connections",
            "Open WebSockets.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._messages = Counter(
            _PREFIX + "websocket_messages_total",
            "Frames sent to clients.",
            ("type",),
            registry=self._registry,
        )

    def observe_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one answered request; ``path`` is the template, never the path itself."""
        labels = (method, path, str(status))
        self._requests.labels(*labels).inc()
        self._durations.labels(*labels).observe(seconds)

    def count_message(self, event_type: str, number: int = 1) -> None:
        """Count frames sent to a client."""
        self._messages.labels(event_type).inc(number)

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Count a WebSocket as open."""
        self._connections.inc()
        try:
            yield
        finally:
            self._connections.dec()

    async def render(self, inspection: Inspection) -> bytes:
        """Return everything as text; without a broker only what this process knows."""
        try:
            stats = await inspection.stats()
            families = [
                _up(is_up=True),
                *_counter_families(stats),
                *_histogram_families(stats),
                *_depth_families(await inspection.queue_stats()),
                *_worker_families(await inspection.workers()),
            ]
        except BrokerError:
            families = [_up(is_up=False)]
        return generate_latest(_Everything(self._local(), families))

    def _local(self) -> CollectorRegistry:
        directory = os.environ.get(SHARED_DIRECTORY_VARIABLE)
        if directory is None:
            return self._registry
        _forget_dead(Path(directory))
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # it has no types
        return shared


def _forget_dead(directory: Path) -> None:
    """Drop what processes that were killed have left behind as the present."""
    for path in directory.glob("gauge_live*.db"):
        try:
            os.kill(int(path.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)


class _Everything(CollectorRegistry):
    """The registry of this process with the fleet's families behind it."""

    def __init__(self, registry: CollectorRegistry, families: Iterable[Metric]) -> None:
        super().__init__()
        self._local = registry
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        for family in self._local.collect():
            # The library adds the time of creation of every series: three lines where one will do.
            family.samples = [
                sample for sample in family.samples if not sample.name.endswith("_created")
            ]
            yield family
        yield from self._families


def _up(*, is_up: bool) -> Metric:
    return GaugeMetricFamily(
        _PREFIX + "broker_up", "1 while the broker answers.", value=float(is_up)
    )


def _counter_families(stats: Mapping[str, int]) -> Iterator[Metric]:
    rows: dict[str, list[tuple[list[str], int]]] = defaultdict(list)
    for name, value in stats.items():
        field, *labels = name.split(":")
        rows[field].append((labels, value))
    for spec in _COUNTERS:
        family = CounterMetricFamily(_PREFIX + spec.name, spec.help, labels=spec.labels)
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
        family = HistogramMetricFamily(_PREFIX + spec.name, spec.help, labels=[spec.label])
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
        GaugeMetricFamily(_PREFIX + "queue_depth", "Tasks that wait or run.", labels=["priority"]),
        GaugeMetricFamily(_PREFIX + "queue_backlog", "Tasks that wait.", labels=["priority"]),
        GaugeMetricFamily(
            _PREFIX + "queue_pending_unacked", "Tasks that run.", labels=["priority"]
        ),
    )
    for priority, depth in stats.depths.items():
        values = (depth.queued, depth.queued - depth.pending_unacked, depth.pending_unacked)
        for family, value in zip(families, values, strict=True):
            family.add_metric([priority.label], value)
    yield from families
    yield GaugeMetricFamily(
        _PREFIX + "scheduled_tasks", "Scheduled and retrying tasks.", value=stats.scheduled_count
    )
    yield GaugeMetricFamily(_PREFIX + "dlq_size", "Dead letters.", value=stats.dead_letter_count)
    yield GaugeMetricFamily(
        _PREFIX + "backlog_tasks", "Tasks that are not finished.", value=stats.backlog
    )


def _worker_families(workers: Sequence[WorkerState]) -> Iterator[Metric]:
    yield GaugeMetricFamily(_PREFIX + "active_workers", "Live workers.", value=len(workers))
    active = GaugeMetricFamily(
        _PREFIX + "worker_active_tasks", "Tasks a worker runs.", labels=["worker_id"]
    )
    slots = GaugeMetricFamily(
        _PREFIX + "worker_concurrency", "Tasks a worker can run at once.", labels=["worker_id"]
    )
    for worker in workers:
        active.add_metric([worker.id], worker.active_tasks)
        slots.add_metric([worker.id], worker.concurrency)
    yield active
    yield slots
