"""What Prometheus reads: the fleet's counters and this process's, by their old names."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest
from fleet import FakeWorker
from prometheus_client.parser import text_string_to_metric_families

from taskqueue_core import metrics as fields
from taskqueue_core.broker import Broker
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import MetricsSettings, RedisSettings, Settings
from taskqueue_server.app import create_app
from taskqueue_server.metrics import _forget_dead

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(client: httpx.AsyncClient, path: str = "/metrics") -> Samples:
    """Return every sample by name and labels."""
    response = await client.get(path)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name.removeprefix("taskqueue_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def submit(client: httpx.AsyncClient, **more: object) -> None:
    """Submit a task."""
    assert (await client.post("/api/v1/tasks", json={"type": "echo", **more})).status_code == 201


async def test_task_counters(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Submissions and outcomes are counted by type, priorities by name."""
    for _ in range(3):
        await submit(client, priority=2)
    await worker.complete(await worker.take())
    await worker.fail(await worker.take(), max_retries=1)
    await worker.fail(await worker.take())
    await client.post("/admin/dlq/retry", json={"retry_all": True})
    found = await scrape(client)
    echo = ("type", "echo")
    assert found["tasks_submitted_total", (("priority", "high"), echo)] == 3
    assert found["tasks_completed_total", (("status", "completed"), echo)] == 1
    assert found["tasks_completed_total", (("status", "dead_letter"), echo)] == 1
    assert found["tasks_retrying_total", (echo,)] == 1
    assert found["tasks_retries_total", (echo,)] == 1
    assert found["dlq_added_total", ()] == 1


async def test_unknown_types_share_a_label(client: httpx.AsyncClient) -> None:
    """A client cannot make the metrics grow by inventing types."""
    for number in range(3):
        await submit(client, type=f"invented-{number}")
    assert (await scrape(client))[
        "tasks_submitted_total", (("priority", "normal"), ("type", "other"))
    ] == 3


async def test_depths(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Depth is what waits and runs, backlog what waits, pending what runs."""
    await submit(client, priority=3)
    await submit(client, priority=3)
    await submit(client, scheduled_at="2024-01-15T12:00:00Z")
    await worker.take()
    found = await scrape(client)
    critical = (("priority", "critical"),)
    names = ("queue_depth", "queue_backlog", "queue_pending_unacked")
    assert [found[name, critical] for name in names] == [2, 1, 1]
    assert (found["active_workers", ()], found["dlq_size", ()]) == (1, 0)
    assert (found["scheduled_tasks", ()], found["broker_up", ()]) == (0, 1)


async def test_histograms(client: httpx.AsyncClient, broker: Broker) -> None:
    """The buckets that workers flush become cumulative ones in seconds."""
    durations = {
        fields.field(fields.DURATION, "echo", fields.bucket(3)): 2,
        fields.field(fields.DURATION, "echo", fields.bucket(10**6)): 1,
        fields.field(fields.DURATION_SUM, "echo"): 1_000_006,
        fields.field(fields.WAIT, 2, fields.bucket(1)): 4,
        fields.field(fields.WAIT_SUM, 2): 4,
    }
    fake = FakeWorker(broker)
    await fake.register()
    await fake.session.heartbeat(request=2, active=0, types=["echo"], counters=durations)
    found = await scrape(client)
    echo = ("type", "echo")
    bounds = ("0.002", "0.005", "60.0", "+Inf")
    counts = [found["task_duration_seconds_bucket", (("le", bound), echo)] for bound in bounds]
    assert counts == [0, 2, 2, 3]
    assert found["task_duration_seconds_count", (echo,)] == 3
    assert found["task_duration_seconds_sum", (echo,)] == 1000.006
    assert found["queue_latency_seconds_count", (("priority", "high"),)] == 4


async def test_http_metrics_name_templates(client: httpx.AsyncClient) -> None:
    """Paths are counted by their template, unknown ones and methods together."""
    for path in ("/api/v1/tasks/a", "/api/v1/tasks/b", "/nope", "/none"):
        await client.get(path)
    await client.request("BREW", "/health")
    found = await scrape(client)

    def count(method: str, path: str, status: str) -> float:
        labels = (("method", method), ("path", path), ("status", status))
        assert found["http_request_duration_seconds_count", labels] >= 1
        return found["http_requests_total", labels]

    assert count("GET", "/api/v1/tasks/{task_id}", "404") == 2
    assert count("GET", "unmatched", "404") == 2
    assert count("other", "/health", "405") == 1


async def test_every_metric_of_the_old_system_is_there(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """A dashboard made for it finds its names."""
    response = await client.get("/metrics")
    names = {family.name for family in text_string_to_metric_families(response.text)}
    expected = (
        "tasks_submitted stale_outcomes lost_leases tasks_completed task_duration_seconds "
        "tasks_retries tasks_retrying retry_delay_seconds tasks_scheduled queue_depth "
        "queue_backlog queue_pending_unacked queue_latency_seconds scheduled_tasks active_workers "
        "dlq_size dlq_added orphan_claims http_requests http_request_duration_seconds "
        "websocket_connections websocket_messages"
    )
    assert {f"taskqueue_{name}" for name in expected.split()} <= names
    assert "_created" not in response.text
    assert worker.id in response.text


def test_killed_processes_are_not_counted(tmp_path: Path) -> None:
    """What a process had open when it was killed is not open any more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive, dead, total = (
        tmp_path / f"{name}.db"
        for name in (f"gauge_livesum_{os.getpid()}", f"gauge_livesum_{ended.pid}", "counter_1")
    )
    for path in (alive, dead, total):
        path.touch()
    _forget_dead(tmp_path)
    assert set(tmp_path.iterdir()) == {alive, total}


def test_the_number_of_a_killed_process_may_be_anybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has its number now, and another user, is none of this server."""

    def refuse(_process: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    (tmp_path / "gauge_livesum_1.db").touch()
    _forget_dead(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_without_a_broker(settings: Settings, serving: Serving) -> None:
    """The process's own metrics can still be read, and say that the broker is away."""
    away = RedisSettings(url="redis://127.0.0.1:1/0", max_retries=0)
    async with serving(settings.model_copy(update={"redis": away})) as client:
        found = await scrape(client)
    assert found["broker_up", ()] == 0
    assert ("websocket_connections", ()) in found
    assert ("dlq_size", ()) not in found


async def test_a_silent_broker(
    settings: Settings, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes connections and says nothing does not keep a scrape waiting."""
    monkeypatch.setattr("taskqueue_server.metrics._FLEET_SECONDS", 0.1)
    with bind_listener("127.0.0.1", 0) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        async with serving(settings.model_copy(update={"redis": RedisSettings(url=url)})) as client:
            async with asyncio.timeout(2):
                assert (await scrape(client))["broker_up", ()] == 0


@pytest.mark.parametrize(
    ("metrics", "statuses"),
    [
        (MetricsSettings(), {"/metrics": 200, "/internal/metrics": 404}),
        (MetricsSettings(path="/internal/metrics"), {"/metrics": 404, "/internal/metrics": 200}),
        (MetricsSettings(enabled=False), {"/metrics": 404, "/internal/metrics": 404}),
    ],
)
async def test_path_and_switch(
    settings: Settings, metrics: MetricsSettings, statuses: dict[str, int]
) -> None:
    """Metrics are where the settings put them, or nowhere."""
    application = create_app(settings.model_copy(update={"metrics": metrics}))
    transport = httpx.ASGITransport(app=application)
    async with (
        application.running(),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert {path: (await client.get(path)).status_code for path in statuses} == statuses
