"""Whether tasks are traced, and where the spans of a process go: OpenTelemetry, an extra.

Nothing of it is imported unless ``tracing.enabled`` is set. Where spans go, how many of them and
under which name is said by its own ``OTEL_*`` variables alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import structlog

from taskqueue_core.errors import SettingsError

if TYPE_CHECKING:  # they import OpenTelemetry
    from opentelemetry.sdk.trace import TracerProvider

    from taskqueue_core.spans import Spans

#: What the processes are called where ``OTEL_SERVICE_NAME`` says nothing.
SERVER: Final = "taskqueue-server"
WORKER: Final = "taskqueue-worker"
#: How long a process that ends waits for its last spans to be taken.
FLUSH_SECONDS: Final = 5.0

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_NAMELESS: Final = "unknown_service"
_log = structlog.get_logger("taskqueue.tracing")


def check_tracing(*, enabled: bool) -> None:
    """Refuse to trace without OpenTelemetry.

    Raises:
        SettingsError: ``tracing.enabled`` is set and it is not installed.
    """
    if enabled and not all(map(_is_installed, _NEEDED)):
        raise SettingsError(
            "tracing.enabled is set, but OpenTelemetry is not installed: "
            'pip install "taskqueue-service[opentelemetry]"'
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False


def find_spans(*, enabled: bool) -> Spans | None:
    """Return what makes the spans of tasks, ``None`` when they are not traced.

    Raises:
        SettingsError: see ``check_tracing``.
    """
    if not enabled:
        return None
    check_tracing(enabled=True)
    from taskqueue_core.spans import Spans

    return Spans()


@contextmanager
def exporting(
    service: str, *, enabled: bool, flush_seconds: float = FLUSH_SECONDS
) -> Iterator[None]:
    """Export the spans of this process until the end, those of handlers too.

    ``service`` is its name where ``OTEL_SERVICE_NAME`` says none. A provider that is there already,
    for instance that of ``opentelemetry-instrument``, is used as it is.

    Raises:
        SettingsError: OpenTelemetry is not installed, or refuses its variables.
    """
    provider = _provide(service) if enabled else None
    try:
        yield
    finally:
        if provider is not None:
            _flush(provider, flush_seconds)


def _provide(service: str) -> TracerProvider | None:
    check_tracing(enabled=True)
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    try:
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith(_NAMELESS):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise SettingsError(f"a variable of OpenTelemetry (OTEL_*) is refused: {error}") from error
    trace.set_tracer_provider(provider)
    return provider


def _flush(provider: TracerProvider, seconds: float) -> None:
    """Give the last spans some time; the provider itself keeps to no limit when nobody answers."""
    ending = threading.Thread(target=provider.shutdown, name="taskqueue-last-spans", daemon=True)
    ending.start()
    ending.join(seconds)
    if ending.is_alive():
        _log.warning("the last spans were not taken in time", seconds=seconds)
