"""A whole system, as a newcomer starts it: one command, in an empty folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true answer of ``condition``; the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return answer


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environ(**more: str) -> dict[str, str]:
    """Return the environment without settings of the one who runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if "TASKQUEUE" not in name}
    return inherited | more


class System:
    """``taskqueue-server --dev`` in a folder of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskqueue_server", "--dev", "--port", str(self.port)],
                cwd=folder,
                env=clean_environ(**settings),
                stdout=log,
                stderr=log,
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        assert wait_for(self._has_worker, 20), self.log.read_text()

    def _has_worker(self) -> bool:
        try:
            return bool(self.http.get("/admin/workers").json()["count"])
        except (httpx.TransportError, KeyError):
            return False

    def submit(self, **task: Any) -> dict[str, Any]:
        """Submit a task over HTTP and return the answer's body."""
        answer = self.http.post("/api/v1/tasks", json=task)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def get(self, task_id: str) -> dict[str, Any]:
        """Return a task as it is now."""
        return dict(self.http.get(f"/api/v1/tasks/{task_id}").json())

    def wait(self, task_id: str, state: str, seconds: float = 10.0) -> dict[str, Any]:
        """Return the task once it is in ``state``."""
        assert wait_for(lambda: self.get(task_id)["state"] == state, seconds), self.get(task_id)
        return self.get(task_id)

    def stop(self) -> int:
        """Stop as Ctrl-C does; the exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)
