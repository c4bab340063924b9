"""What a newcomer sees first: ``make demo`` runs, tells the truth, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

_DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@contextmanager
def demo(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield the running demo, whose temporary files are in ``scratch``."""
    process = subprocess.Popen(
        [sys.executable, str(_DEMO)],
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_url(process: subprocess.Popen[str]) -> str:
    """Return the address of the demo's service, once it is up."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise AssertionError("the demo ended before it served")


def test_everything_goes_as_told(tmp_path: Path) -> None:
    """All four parts succeed, each with the events of its task in their order."""
    with demo(tmp_path) as process:
        told, complaints = process.communicate(timeout=50)
    assert (process.returncode, complaints) == (0, "")
    parts = [re.findall(r"task\.[a-z_]+", part) for part in told.split("\n\n")]
    once = ["task.submitted", "task.started", "task.completed"]
    death = ["task.queued", "task.started", "task.failed", "task.dead_letter"]
    assert parts[1] == once
    assert parts[2] == [once[0], "task.queued", *once[1:]]
    assert parts[3] == ["task.submitted", "task.started", "task.retrying", *death]
    assert parts[4] == ["task.queued", "task.started", "task.retrying", *death]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM: another exit code, the port closed, the data gone."""
    with demo(tmp_path) as process:
        url = read_url(process)
        process.send_signal(number)
        _, complaints = process.communicate(timeout=30)
    assert (process.returncode, "interrupted" in complaints) == (130, True)
    assert "Traceback" not in complaints
    assert list(tmp_path.glob("taskqueue-demo-*")) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/health")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the service through /proc")
def test_a_service_that_dies_is_a_failure(tmp_path: Path) -> None:
    """The demo does not say that all went well when its service ended early."""
    with demo(tmp_path) as process:
        read_url(process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        _, complaints = process.communicate(timeout=50)
    assert process.returncode == 1
    assert "demo: " in complaints
