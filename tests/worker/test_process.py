"""A worker as a process: its name, what it loads, how it refuses to start."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from taskqueue_core.models import is_name
from taskqueue_core.settings import PluginSettings, RedisSettings, Settings
from taskqueue_core.worker import process


@pytest.mark.parametrize("host", ["box", "a.b-c", "ünï/code:host", "x" * 300, ""])
def test_generated_ids_are_names(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine is called, and never the same twice."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    rng = random.Random(1)
    first, second = process.generated_id(rng), process.generated_id(rng)
    assert is_name(first)
    assert first != second


def test_a_start_that_cannot_succeed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why; the exit code says that trying again will not help."""
    settings = Settings(
        data_dir=tmp_path,
        redis=RedisSettings(url="unix:///nonexistent/socket"),
        plugins=PluginSettings(prefer={"sleep": "no-such-plugin"}),
    )
    assert process.run_worker(settings) == process.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert "no-such-plugin" in lines[-1]


def test_a_wrong_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A child of a supervisor says what is wrong and ends with the code that stops both."""
    monkeypatch.setenv("TASKQUEUE_WORKER_CONCURRENCY", "many")
    assert process.main() == process.REFUSED
    assert capsys.readouterr().err.startswith("taskqueue-worker: ")
