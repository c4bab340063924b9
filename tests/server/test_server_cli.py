"""The command ``taskqueue-server``: its flags, its refusals, and whole processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

import taskqueue_server
from taskqueue_core.broker.embedded import EmbeddedBroker
from taskqueue_core.processes import ChildSpec, bind_listener
from taskqueue_server import cli

_ROOT = Path(taskqueue_server.__file__).parents[1]
_FLAGS = {
    *("--config", "--redis-url", "--data-dir", "--log-level", "--host", "--port", "--workers"),
    *("--dev", "--insecure-no-auth", "--help"),
}


@pytest.fixture(autouse=True)
def logging_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a command that runs in this process from taking over the logging of all tests."""
    monkeypatch.setattr(cli, "configure_logging", lambda level: None)


def run(*arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it printed."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, arguments)
    return result.exit_code, result.output


def test_help_names_every_flag() -> None:
    """Each flag is there, with a sentence."""
    code, text = run("--help")
    rows = {line.split()[1]: line for line in text.splitlines() if " --" in line}
    assert (code, set(rows)) == (0, _FLAGS)
    assert all(row.rstrip(" │").endswith((".", ")")) for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--insecure-no-auth"),
        (["--port", "70000"], "server.port"),
        (["--workers", "0"], "server.workers"),
        (["--log-level", "loud"], "loglevel"),
        (["--config", "/nowhere/config.yaml"], "cannot be read"),
        (["--data-dir", ""], "datadir"),
        (["--host", "no.such.host.invalid", "--insecure-no-auth"], "cannot listen"),
    ],
)
def test_refused_settings(arguments: list[str], message: str) -> None:
    """What cannot work stops the start with exit code 2 and the fix."""
    code, text = run("--redis-url", "redis://127.0.0.1:1", *arguments)
    assert (code, message in text) == (2, True)


def test_port_in_use(free_settings: list[str]) -> None:
    """A second server on the port is refused before it starts anything."""
    with bind_listener("127.0.0.1", 0) as taken:
        code, text = run(*free_settings, "--port", str(taken.getsockname()[1]))
    assert (code, "cannot listen" in text) == (2, True)


@pytest.fixture
def free_settings(tmp_path: Path) -> list[str]:
    """Return flags for a Redis that is not there yet: a socket in an empty directory."""
    return ["--redis-url", f"unix://{tmp_path}/broker.sock", "--data-dir", str(tmp_path)]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], ["server-1"]),
        (["--workers", "3"], ["server-1", "server-2", "server-3"]),
        (["--dev"], ["server-1", "worker"]),
    ],
)
def test_children(
    monkeypatch: pytest.MonkeyPatch, free_settings: list[str], flags: list[str], names: list[str]
) -> None:
    """So many server processes, and with --dev one worker; all get the same settings."""
    started: list[ChildSpec] = []

    class Recorder:
        def __init__(self, children: Sequence[ChildSpec], **options: Any) -> None:
            started.extend(children)

        def run(self) -> int:
            return 7

    monkeypatch.setattr(cli, "Supervisor", Recorder)
    code, _ = run(*free_settings, "--port", "0", *flags)
    assert (code, [child.name for child in started]) == (7, names)
    assert {(child.env or {})["TASKQUEUE_REDIS_URL"] for child in started} == {free_settings[1]}
    modules = {child.argv[2] for child in started}
    assert modules <= {"taskqueue_server.serving", "taskqueue_core.worker"}


@pytest.mark.parametrize(
    ("variables", "is_told"),
    [
        ({"TASKQUEUE_AUTH_ENABLED": "true"}, True),
        ({"TASKQUEUE_AUTH_ENABLED": "true", "TASKQUEUE_AUTH_APIKEYS": "k"}, False),
        ({}, False),
    ],
)
def test_closed_to_all_but_stored_keys_is_told(
    monkeypatch: pytest.MonkeyPatch,
    free_settings: list[str],
    variables: dict[str, str],
    *,
    is_told: bool,
) -> None:
    """A server that no key of the settings opens says where keys are made."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with bind_listener("127.0.0.1", 0) as taken, capture_logs() as lines:
        run(*free_settings, "--port", str(taken.getsockname()[1]))
    assert any("taskqueue keys new" in line["event"] for line in lines) == is_told


@contextmanager
def server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Yield a server process with a client of it; it is stopped afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "taskqueue_server", "--port", "0", *arguments],
        cwd=_ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if "TASKQUEUE" not in name},
    )
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())
    try:
        with httpx.Client(base_url=first["url"], timeout=20) as client:
            yield process, client
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=20)


def wait_for_status(client: httpx.Client, path: str, status: int) -> None:
    """Ask until the answer has ``status``."""
    deadline = time.monotonic() + 20
    while client.get(path).status_code != status:
        assert time.monotonic() < deadline, f"{path} never answered {status}"


def test_starts_without_redis_and_works_once_it_is_there(
    tmp_path: Path, free_settings: list[str]
) -> None:
    """The server says that it cannot work yet, and needs no restart when it can."""
    with server(*free_settings) as (process, client):
        assert client.get("/health").status_code == 200
        assert client.get("/admin/health").status_code == 503
        with EmbeddedBroker(tmp_path):
            wait_for_status(client, "/admin/health", 200)
            assert client.post("/api/v1/tasks", json={"type": "echo"}).status_code == 201
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_embedded_broker_ends_with_the_server_and_keeps_the_tasks(tmp_path: Path) -> None:
    """With no Redis named the server brings its own, and finds its tasks there again."""
    with server("--data-dir", str(tmp_path), "--workers", "2") as (_, client):
        location = client.post("/api/v1/tasks", json={"type": "echo"}).headers["location"]
    assert not (tmp_path / "broker.sock").exists()
    with server("--data-dir", str(tmp_path)) as (_, client):
        assert client.get(location).json()["state"] == "pending"


def test_processes_count_together(tmp_path: Path) -> None:
    """Whichever process answers, metrics show the requests of all."""
    with server("--data-dir", str(tmp_path), "--workers", "2") as (_, client):
        for _ in range(12):
            httpx.get(f"{client.base_url}/health")  # a connection of its own each
        expected = 'http_requests_total{method="GET",path="/health",status="200"} 12.0'
        for _ in range(4):
            text = httpx.get(f"{client.base_url}/metrics").text
            assert f"taskqueue_{expected}" in text
            assert "taskqueue_websocket_connections 0.0" in text


def test_nothing_serves_after_the_parent_was_killed(tmp_path: Path) -> None:
    """A server process that has lost its parent gives the port back."""
    with server("--data-dir", str(tmp_path)) as (process, client):
        assert client.get("/health").status_code == 200
        process.kill()
        with pytest.raises(httpx.TransportError):
            wait_for_status(client, "/health", 503)
