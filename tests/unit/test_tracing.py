"""OpenTelemetry is an extra: without need it is not imported, with need it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from taskqueue_core.config import load_settings
from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import Settings
from taskqueue_core.tracing import _flush, check_tracing, exporting, find_spans

PIP = 'pip install "taskqueue-service[opentelemetry]"'

#: Submits a task, runs it in a worker and shows what has been imported for that.
ROUND_TRIP = """
import asyncio, os, random, sys
# redis-py imports others of its modules, where it is installed.
OURS = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "taskqueue_core.spans")
import taskqueue_core.plugin.child, taskqueue_server.serving
from taskqueue_core.broker import connect
from taskqueue_core.config import load_settings
from taskqueue_core.models import NewTask
from taskqueue_core.plugin import PluginHost, handler
from taskqueue_core.worker import Worker
from taskqueue_server.app import create_app

@handler("echo")
async def echo(ctx, payload):
    ctx.log.warning("a line")

async def main():
    settings = load_settings(environ=os.environ, search=()).settings
    create_app(settings)
    async with connect(settings) as queue:
        task = await queue.submit(NewTask(id=queue.new_task_id(), type="echo"))
        worker = Worker(settings, PluginHost.of(echo), worker_id="w", rng=random.Random(1))
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(20):
            while (await queue.inspection.get(task.id)).state != "completed":
                await asyncio.sleep(0.01)
        worker.stop()
        await running
    print("imported:", [name for name in sys.modules if name.startswith(OURS)])

asyncio.run(main())
"""

#: Runs a command on a machine where OpenTelemetry is not installed.
WITHOUT_IT = """
import sys
sys.modules["opentelemetry"] = None
from {module} import {main}
sys.argv = ["command"]
{main}()
"""


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    others = {name: value for name, value in os.environ.items() if "TASKQUEUE" not in name}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=others | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("absent", ["", 'import sys; sys.modules["opentelemetry"] = None\n'])
def test_a_round_trip_without_tracing_imports_nothing_of_it(
    redis_url: str, namespace: str, absent: str
) -> None:
    """Neither client, server, worker nor child do: it would cost every start its time."""
    ended = run(
        absent + ROUND_TRIP, TASKQUEUE_REDIS_URL=redis_url, TASKQUEUE_QUEUE_NAMESPACE=namespace
    )
    assert ended.stdout.splitlines()[-1:] == ["imported: []"], ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("module", "main"),
    [
        ("taskqueue_core.cli", "worker_main"),
        ("taskqueue_server.cli", "main"),
        ("taskqueue_core.worker.process", "main"),
    ],
)
def test_a_start_without_the_extra_ends_with_the_way_to_install_it(
    tmp_path: Path, module: str, main: str
) -> None:
    """The exit code is that of any other setting that is refused."""
    code = WITHOUT_IT.format(module=module, main=main)
    if module.endswith("process"):
        code = code.replace("\nmain()", "\nsys.exit(main())")
    ended = run(
        code,
        TASKQUEUE_TRACING_ENABLED="true",
        TASKQUEUE_DATADIR=str(tmp_path),
        TASKQUEUE_SERVER_PORT="0",
    )
    assert ended.returncode == 2, ended.stderr
    assert PIP.replace('"', '\\"') in ended.stderr or PIP in ended.stderr


def test_a_variable_that_is_refused_stops_the_start(tmp_path: Path) -> None:
    """The message is OpenTelemetry's own, and says whose variable it is about."""
    ended = run(
        "import sys; from taskqueue_core.worker.process import main; sys.exit(main())",
        TASKQUEUE_TRACING_ENABLED="true",
        TASKQUEUE_DATADIR=str(tmp_path),
        OTEL_BSP_MAX_QUEUE_SIZE="-1",
    )
    assert ended.returncode == 2, ended.stderr
    assert "a variable of OpenTelemetry (OTEL_*) is refused" in ended.stderr


def test_the_setting_is_known_by_its_name() -> None:
    """It is off unless it is asked for; a slip of the pen is seen."""
    assert not Settings().tracing.enabled
    assert load_settings(
        environ={"TASKQUEUE_TRACING_ENABLED": "true"}, search=()
    ).settings.tracing.enabled
    with pytest.raises(SettingsError, match=r"did you mean tracing\.enabled"):
        load_settings(environ={"TASKQUEUE_TRACING_ENABLE": "true"}, search=())


def test_without_need_nothing_is_checked_and_nothing_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is switched off may be absent."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    check_tracing(enabled=False)
    assert find_spans(enabled=False) is None
    with exporting("service", enabled=False):
        pass
    with pytest.raises(SettingsError, match="not installed"):
        find_spans(enabled=True)


class Slow(SpanExporter):
    """An exporter whose other side does not answer before ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait."""
        self.go.wait(30)
        return SpanExportResult.SUCCESS


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Yield an exporter that is let go at the end."""
    slow = Slow()
    yield slow
    slow.go.set()


def test_an_end_waits_for_the_last_spans_but_not_for_ever(slow: Slow) -> None:
    """Who does not take them in time does not get them."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(slow))
    provider.get_tracer("a").start_span("last").end()
    began = time.monotonic()
    with capture_logs() as lines:
        _flush(provider, 0.05)
    assert time.monotonic() - began < 5
    assert [line["event"] for line in lines] == ["the last spans were not taken in time"]
