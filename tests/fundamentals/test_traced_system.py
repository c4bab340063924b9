"""One variable turns traces on: a task's way through the whole system, at your collector."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from system import System

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


class Collector:
    """Takes spans over HTTP, as any collector does; ``spans`` are (service, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for group in request.resource_spans:
            names = {one.key: one.value.string_value for one in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Yield a collector of this test's own."""
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def fail_one(system: System) -> dict[str, Any]:
    """Submit a task of a trace, which fails; return it once it has."""
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "my-request"}
    body = {"type": "fail", "payload": {"message": "as asked"}, "max_retries": 0}
    task = system.http.post("/api/v1/tasks", json=body, headers=headers).json()
    return system.wait(task["id"], "dead_letter")


def test_a_collector_sees_the_way_of_a_task(tmp_path: Path, collector: Collector) -> None:
    """Spans come from server and worker, the last ones when they stop; logs name the trace."""
    system = System(
        tmp_path,
        TASKQUEUE_TRACING_ENABLED="true",
        TASKQUEUE_SERVER_ACCESSLOG="true",
        TASKQUEUE_LOGLEVEL="debug",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
        OTEL_BSP_SCHEDULE_DELAY="600000",  # in ms: nothing is sent before the end
    )
    try:
        task = fail_one(system)
        assert collector.spans == []
        assert system.stop() == 0
    finally:
        system.process.kill()
    found = {span.name: (service, span) for service, span in collector.spans}
    assert set(found) == {"submit", "run fail"}
    (server, submit), (worker, run) = found["submit"], found["run fail"]
    assert (server, worker) == ("taskqueue-server", "taskqueue-worker")
    assert {submit.trace_id.hex(), run.trace_id.hex()} == {TRACE}
    assert submit.parent_span_id.hex() == CALLER
    assert run.parent_span_id == submit.span_id
    lines = [json.loads(line) for line in system.log.read_text().splitlines() if line[0] == "{"]
    [failed] = [line for line in lines if line["event"] == "attempt failed"]
    assert (failed["task_id"], failed["attempt"]) == (task["id"], 1)
    assert (failed["trace_id"], failed["span_id"]) == (TRACE, run.span_id.hex())
    assert failed["worker_id"].startswith("worker-")
    [answered] = [line for line in lines if line.get("request_id") == "my-request"]
    assert (answered["event"], answered["status"]) == ("answered", 201)
