"""Traces: from the request over the submission to each attempt, and what a handler does in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import daring
import httpx
import msgspec
import pytest
from crew import Crew, at_work, delivery, ended, eventually, new, reached
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.codec import encode_body
from taskqueue_core.errors import CapacityError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import NewTask, OutcomeKind
from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.settings import QueueSettings, Settings, TracingSettings
from taskqueue_core.states import TaskState
from taskqueue_core.worker.subprocesses import Children
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Return where the spans of this process go from now on: a provider is set once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """Yield where the spans of one test go."""
    exporter.clear()
    yield exporter
    exporter.clear()


@pytest.fixture
def traced(settings: Settings) -> Settings:
    """Return the test's settings with tracing on."""
    return settings.model_copy(update={"tracing": TracingSettings(enabled=True)})


@pytest.fixture
async def producer(traced: Settings, broker: Broker) -> AsyncIterator[Broker]:
    """Yield a broker that traces, on the namespace of ``broker``."""
    producer = open_broker(traced)
    yield producer
    await producer.close()


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.running(),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Return the finished spans of a name, in the order of their ends."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    """Tell whether one span was made within another one."""
    return (
        span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.context.trace_id == parent.context.trace_id
    )


@handler("echo")
async def echo(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Do something of its own."""
    with trace.get_tracer("own").start_as_current_span("inside"):
        await asyncio.sleep(0)


@handler("thread")
def in_thread(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Do something of its own in a thread."""
    with trace.get_tracer("own").start_as_current_span("inside"):
        pass


async def test_request_submission_and_attempt_are_one_trace(
    traced: Settings, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """The submission is a child of what the client was in, the attempt one of the submission."""
    async with served(traced) as client, at_work(traced, echo):
        answer = await client.post(
            "/api/v1/tasks", json={"type": "echo", "queue": "q1"}, headers={"traceparent": SENT}
        )
        task_id = answer.json()["id"]
        await ended(broker, task_id)
    [submit], [run], [inside] = (named(spans, name) for name in ("submit", "run echo", "inside"))
    assert submit.parent is not None
    assert f"{submit.context.trace_id:032x}" == TRACE
    assert f"{submit.parent.span_id:016x}" == SENT.split("-")[2]
    assert is_child(run, submit)
    assert is_child(inside, run)
    assert (submit.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert dict(submit.attributes or {}) == {
        "messaging.system": "taskqueue",
        "messaging.operation.name": "submit",
        "messaging.operation.type": "send",
        "messaging.destination.name": "q1",
        "messaging.message.id": task_id,
        "taskqueue.type": "echo",
    }
    assert dict(run.attributes or {}) == {
        "messaging.system": "taskqueue",
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.destination.name": "q1",
        "messaging.message.id": task_id,
        "messaging.client.id": "w1",
        "taskqueue.type": "echo",
        "taskqueue.attempt": 1,
        "taskqueue.outcome": "complete",
    }
    assert run.status.status_code is StatusCode.UNSET


async def test_tasks_of_a_batch_share_their_submission(
    traced: Settings, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """Each has an attempt of its own, and all of them are children of the one request."""
    async with served(traced) as client, at_work(traced, echo):
        tasks = [{"type": "echo"}, {"type": "echo", "metadata": {"k": "v"}}]
        answer = await client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        for item in answer.json()["items"]:
            await ended(broker, item["task"]["id"])
    [submit] = named(spans, "submit")
    assert submit.parent is None
    assert (submit.attributes or {})["messaging.batch.message_count"] == 2
    runs = named(spans, "run echo")
    assert [is_child(run, submit) for run in runs] == [True, True]


async def test_every_attempt_has_a_span(
    traced: Settings, producer: Broker, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """One that failed names the error's type, and says nothing of its text."""

    @handler("echo")
    async def second_time(ctx: TaskContext, payload: dict[str, Any]) -> None:
        if ctx.attempt == 1:
            raise LookupError("a secret")

    async with at_work(traced, second_time):
        with trace.get_tracer("own").start_as_current_span("caller") as caller:
            task = await producer.submit(new(producer, max_retries=1))
        await ended(broker, task.id)
    [submit] = named(spans, "submit")
    assert submit.parent == caller.get_span_context()
    failed, completed = named(spans, "run echo")
    assert is_child(failed, submit)
    assert is_child(completed, submit)
    assert [(span.attributes or {})["taskqueue.attempt"] for span in (failed, completed)] == [1, 2]
    assert (failed.attributes or {})["error.type"] == "LookupError"
    assert (failed.status.status_code, failed.status.description) == (
        StatusCode.ERROR,
        "LookupError",
    )
    assert failed.events == ()
    assert "secret" not in failed.to_json()


async def test_a_trace_waits_with_the_task(
    settings: Settings, traced: Settings, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """A server without OpenTelemetry keeps what it was sent; a retry with another payload too."""
    async with served(settings) as client:
        tasks = [{"type": "echo"}, {"type": "echo", "metadata": {}}]
        for task in tasks:
            headers = {"traceparent": SENT}
            answer = await client.post("/api/v1/tasks", json=task, headers=headers)
            shown = (await client.get(f"/api/v1/tasks/{answer.json()['id']}")).json()
            assert shown == {**answer.json(), "no_worker": True}
            assert ("metadata" in shown) == ("metadata" in task)
            await broker.cancel(shown["id"])
            await broker.retry(shown["id"], payload=b'{"new":1}')
    assert spans.get_finished_spans() == ()
    async with at_work(traced, echo):
        await ended(broker, shown["id"])
        await eventually(lambda: len(named(spans, "run echo")) == 2, "both")
    for run in named(spans, "run echo"):
        assert run.parent is not None
        assert f"{run.context.trace_id:032x}-{run.parent.span_id:016x}" == SENT[3:-3]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "00-nothing-like-it-01")],
        [("traceparent", 'x","y')],
        [("traceparent", SENT), ("traceparent", SENT)],
    ],
)
async def test_what_is_no_trace_is_not_kept(
    settings: Settings, broker: Broker, headers: list[tuple[str, str]]
) -> None:
    """It is no error either: tracing must not cost a task."""
    async with served(settings) as client:
        answer = await client.post("/api/v1/tasks", json={"type": "echo"}, headers=headers)
    assert answer.status_code == 201
    key = broker.partitions[0].task(id_to_hex(answer.json()["id"]))
    assert await broker.redis.hget(key, "b") == b"[{}]"


async def test_a_span_of_a_refused_submission_says_why(
    traced: Settings, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """The caller hears of it all the same."""
    queue = traced.queue.model_copy(update={"max_queue_size": 1})
    narrow = open_broker(traced.model_copy(update={"queue": queue}))
    await narrow.submit(new(narrow))
    with pytest.raises(CapacityError):
        await narrow.submit(new(narrow))
    assert await narrow.submit_many([]) == []
    await narrow.close()
    accepted, refused = named(spans, "submit")
    assert accepted.status.status_code is StatusCode.UNSET
    assert refused.status.status_code is StatusCode.ERROR
    assert (refused.attributes or {})["error.type"] == "CapacityError"


async def test_tasks_of_other_traces_stay_in_them(
    producer: Broker, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """Only those without one, or of the first one's, become part of the submission."""
    other = SENT.replace("b7ad", "0000")
    tasks = [new(producer, traceparent=sent) for sent in (SENT, "", other)]
    await producer.submit_many(tasks)
    [submit] = named(spans, "submit")
    own = f"00-{TRACE}-{submit.context.span_id:016x}-01"
    stored = [(await broker.inspection.get(task.id)).traceparent for task in tasks]
    assert stored == [own, own, other]


async def test_a_span_at_work_in_the_same_trace_is_the_nearer_parent(
    producer: Broker, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """A framework's span of the request stands between the client's and the submission's."""
    with trace.get_tracer("own").start_as_current_span("request") as request:
        here = request.get_span_context()
        sent = f"00-{here.trace_id:032x}-b7ad6b7169203331-01"
        await producer.submit(new(producer, traceparent=sent))
    [submit] = named(spans, "submit")
    assert submit.parent == here


@pytest.fixture
async def crew(traced: Settings) -> AsyncIterator[Crew]:
    """Yield an executor that traces what runs by a timeout of 50 ms, in threads, too."""
    queue = QueueSettings(default_timeout_seconds=0.05)
    crew = Crew(traced.model_copy(update={"queue": queue}), in_thread, stubborn)
    yield crew
    release.set()
    crew.executor.release_all()
    await crew.executor.stopped(5)
    crew.executor.close()


release = threading.Event()


@handler("stubborn")
def stubborn(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Stay at work in a thread."""
    release.wait(10)


async def test_a_thread_is_within_the_span_of_its_attempt(
    crew: Crew, spans: InMemorySpanExporter
) -> None:
    """Its own spans are children as those of coroutines are."""
    body = encode_body(b"{}", b"", SENT)
    await crew.outcome(delivery("thread", body=body, timeout_seconds=5))
    [run], [inside] = named(spans, "run thread"), named(spans, "inside")
    assert f"{run.context.trace_id:032x}" == TRACE
    assert is_child(inside, run)


@pytest.mark.parametrize("is_asked", [True, False])
async def test_a_span_ends_with_the_outcome_not_with_the_thread(
    crew: Crew, spans: InMemorySpanExporter, *, is_asked: bool
) -> None:
    """What was asked to stop was cancelled, and is no error of the handler's."""
    release.clear()
    one = delivery("stubborn")
    crew.executor.start(one)
    if is_asked:
        assert crew.executor.cancel(one.digits, one.number)
    await eventually(lambda: crew.outcomes, "an outcome")
    [run] = named(spans, "run stubborn")
    expected = "cancelled" if is_asked else "taskqueue_core.worker.outcomes.TimedOut"
    assert (run.attributes or {})["error.type"] == expected


async def test_a_body_that_cannot_be_read_has_no_trace(
    crew: Crew, spans: InMemorySpanExporter
) -> None:
    """Its attempt fails as it always did."""
    outcome = await crew.outcome(delivery("thread", body=b"nonsense", timeout_seconds=5))
    assert outcome.kind is OutcomeKind.FAIL
    [run] = named(spans, "run thread")
    assert run.parent is None


async def test_a_child_process_is_within_the_span_of_its_attempt(
    traced: Settings,
    spans: InMemorySpanExporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told the context; the type of what it raises comes back."""
    info = tmp_path / "daring-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daring\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[taskqueue.plugins]\nmain = daring\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")  # there is nobody to export to
    crew = Crew(traced, daring)
    crew.executor.children = Children(traced)
    body = encode_body(b"{}", b"", SENT)
    seen = await crew.outcome(delivery("traced", body=body), within_seconds=20)
    [run] = named(spans, "run traced")
    assert msgspec.json.decode(seen.value) == {
        "trace_id": f"{run.context.trace_id:032x}",
        "span_id": f"{run.context.span_id:016x}",
    }
    assert f"{run.context.trace_id:032x}" == TRACE
    crew.outcomes.clear()
    failing = encode_body(b'{"what":"error"}', b"", SENT)
    await crew.outcome(delivery("raise", number=2, body=failing), within_seconds=20)
    [run] = named(spans, "run raise")
    assert (run.attributes or {})["error.type"] == "ValueError"
    await crew.executor.stopped(5)
    crew.executor.close()


async def test_retries_by_hand_stay_in_the_trace(
    traced: Settings, producer: Broker, broker: Broker, spans: InMemorySpanExporter
) -> None:
    """A dead letter that is sent back is tried again in the trace of its submission."""
    gate = {"is_open": False}

    @handler("echo")
    async def gated(ctx: TaskContext, payload: dict[str, Any]) -> None:
        if not gate["is_open"]:
            raise LookupError

    task: NewTask = new(producer, max_retries=0)
    async with at_work(traced, gated):
        await producer.submit(task)
        await reached(broker, task.id, TaskState.DEAD_LETTER)
        gate["is_open"] = True
        await broker.redrive()
        await reached(broker, task.id, TaskState.COMPLETED)
    [submit] = named(spans, "submit")
    runs = named(spans, "run echo")
    assert [is_child(run, submit) for run in runs] == [True, True]
