"""Prometheus metrics: the fleet's, from the counters that the transitions keep, and the server's.

Names and labels are those of the system this one replaces, with the prefix ``taskqueue_``. Several
server processes count in files of one directory, so that each of them shows the sum.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from taskqueue_core.broker import Inspection
from taskqueue_core.errors import BrokerError
from taskqueue_server.families import PREFIX, read_families, up_family
from taskqueue_server.patience import in_time

#: Where the processes of one server count together; the client library reads it when imported.
SHARED_DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

#: Longer than a healthy broker takes, shorter than Prometheus waits for all that is answered.
_FLEET_SECONDS: Final = 4.0
_REDIS_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_HTTP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ServerMetrics:
    """The metrics of this server, and the way to print them with the fleet's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "path", "status")
        self._requests = Counter(
            PREFIX + "http_requests_total", "Answered requests.", labels, registry=self._registry
        )
        self._durations = Histogram(
            PREFIX + "http_request_duration_seconds",
            "Time from request to answer.",
            labels,
            registry=self._registry,
            buckets=_HTTP_SECONDS,
        )
        self._connections = Gauge(
            PREFIX + "websocket_connections",
            "Open WebSockets.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._messages = Counter(
            PREFIX + "websocket_messages_total",
            "Frames sent to clients.",
            ("type",),
            registry=self._registry,
        )
        self._refused = Counter(
            PREFIX + "rate_limited_total",
            "Requests that came too fast (429).",
            registry=self._registry,
        )
        self._event_lag = Gauge(
            PREFIX + "event_feed_lag_events",
            "Events that a server with listeners has not read yet.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._redis_durations = Histogram(
            PREFIX + "redis_operation_duration_seconds",
            "Time of calls of Redis, repeats included.",
            ("operation",),
            registry=self._registry,
            buckets=_REDIS_SECONDS,
        )
        self._redis_errors = Counter(
            PREFIX + "redis_errors_total",
            "Calls of Redis that failed.",
            ("operation",),
            registry=self._registry,
        )

    def observe_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one answered request; ``path`` is the template, never the path itself."""
        labels = (method, path, str(status))
        self._requests.labels(*labels).inc()
        self._durations.labels(*labels).observe(seconds)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._refused.inc()

    def observe_redis(self, operation: str, seconds: float, error: BrokerError | None) -> None:
        """Count one call of Redis; clients do not make up what operations are called."""
        self._redis_durations.labels(operation).observe(seconds)
        if error is not None:
            self._redis_errors.labels(operation).inc()

    def note_event_lag(self, events: int) -> None:
        """Keep how many events this process is behind."""
        self._event_lag.set(events)

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

    async def render(
        self, inspection: Inspection, measure_lag: Callable[[], Awaitable[int]]
    ) -> bytes:
        """Return everything as text; without a broker only what this process knows."""

        async def read() -> list[Metric]:
            families = await read_families(inspection)
            await measure_lag()
            return families

        fleet = await in_time(read(), _FLEET_SECONDS)
        families = [up_family(is_up=fleet is not None), *(fleet or ())]
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
        except (ProcessLookupError, PermissionError):  # or its number is somebody else's now
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
