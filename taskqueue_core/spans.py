"""The spans of tasks: one for each submission, one for each attempt, and the context between them.

Imports OpenTelemetry, an extra: ``tracing`` tells whether there is need for it. A span has the
names of types, queues and errors and the ids of task and worker; never payloads, results or texts.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from taskqueue_core._version import __version__
from taskqueue_core.codec import parse_traceparent, split_body
from taskqueue_core.keys import id_from_hex
from taskqueue_core.models import Delivery, NewTask

#: Of the semantic conventions for messaging, which are still in development.
_ID: Final = "messaging.message.id"
_ERROR: Final = "error.type"


class Submission:
    """Tasks on their way to the broker; they carry the context of their submission."""

    def __init__(self, span: Span, tasks: list[NewTask]) -> None:
        self.tasks = tasks
        self._span = span

    def became(self, task_id: str) -> None:
        """Note the id under which the only task was accepted."""
        self._span.set_attribute(_ID, task_id)


class AttemptSpan:
    """The span of one attempt; what runs in ``scope`` is part of it."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.scope = contextvars.copy_context()
        self.scope.run(attach, trace.set_span_in_context(span, Context()))

    @property
    def traceparent(self) -> str:
        """Return the context for what is part of it in another process."""
        return _written(self._span.get_span_context())

    def end(self, outcome: str, error: str = "") -> None:
        """End it with what became of the attempt; ``error`` is the type of what was raised."""
        self._span.set_attribute("taskqueue.outcome", outcome)
        if error:
            _fail(self._span, error)
        self._span.end()


class Spans:
    """Makes spans with the provider that OpenTelemetry has in this process, or will have."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("taskqueue", __version__)

    @contextmanager
    def submission(self, tasks: Sequence[NewTask]) -> Iterator[Submission]:
        """Yield tasks as they are to be submitted, while a span lasts.

        Nothing runs in it, for callers share their calls of the broker. It belongs to the trace of
        the first task; those that name another trace stay in that.
        """
        sent = tasks[0].traceparent
        span = self._tracer.start_span(
            "submit",
            context=_parent(sent),
            kind=SpanKind.PRODUCER,
            attributes={**_attributes("submit", "send", tasks[0].queue), **_about(tasks)},
        )
        own = _written(span.get_span_context())
        try:
            yield Submission(
                span,
                [
                    replace(task, traceparent=own)
                    if own and task.traceparent in {"", sent}
                    else task
                    for task in tasks
                ],
            )
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    def attempt(self, delivery: Delivery, worker_id: str) -> AttemptSpan:
        """Begin the span of an attempt, in the trace that the task was submitted in."""
        try:
            _, _, traceparent = split_body(delivery.body)
        except ValueError:
            traceparent = ""
        span = self._tracer.start_span(
            f"run {delivery.type}",
            # Never part of what is at work here by chance.
            context=_remote(traceparent) or Context(),
            kind=SpanKind.CONSUMER,
            attributes={
                **_attributes("run", "process", delivery.queue),
                _ID: id_from_hex(delivery.digits),
                "messaging.client.id": worker_id,
                "taskqueue.type": delivery.type,
                "taskqueue.attempt": delivery.attempts,
            },
        )
        return AttemptSpan(span)

    @contextmanager
    def within(self, traceparent: str) -> Iterator[None]:
        """Have what runs here be part of a span of another process."""
        token = attach(_remote(traceparent) or Context())
        try:
            yield
        finally:
            detach(token)


def _attributes(name: str, kind: str, queue: str) -> Mapping[str, str]:
    return {
        "messaging.system": "taskqueue",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": queue,
    }


def _about(tasks: Sequence[NewTask]) -> Mapping[str, str | int]:
    if len(tasks) > 1:
        return {"messaging.batch.message_count": len(tasks)}
    return {_ID: tasks[0].id, "taskqueue.type": tasks[0].type}


def _fail(span: Span, error: str) -> None:
    span.set_attribute(_ERROR, error)
    span.set_status(Status(StatusCode.ERROR, error))


def _parent(traceparent: str) -> Context | None:
    """Return the context that was sent; ``None`` when the one at work here is the nearer one."""
    remote = _remote(traceparent)
    if remote is None:
        return None
    here = trace.get_current_span().get_span_context().trace_id
    there = trace.get_current_span(remote).get_span_context().trace_id
    return None if here == there else remote


def _remote(traceparent: str) -> Context | None:
    parts = parse_traceparent(traceparent).split("-")
    if len(parts) < 4:
        return None
    _, trace_id, span_id, flags = parts
    found = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(found), Context())


def _written(context: SpanContext) -> str:
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
