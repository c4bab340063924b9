"""A live service for SDK tests: a server that asks for keys and a worker, in processes."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import jwt

from taskqueue_core.config import child_environ
from taskqueue_core.settings import (
    AuthSettings,
    QueueSettings,
    RedisSettings,
    Settings,
)

API_KEY: Final = "first-key"
SECRET: Final = "a secret of tokens with 32 bytes."
PATIENCE_SECONDS: Final = 30.0
_numbers: Final = itertools.count()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true; fail, naming it, when it is not in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def make_token(**claims: object) -> str:
    """Return a token that holds for an hour."""
    everything = {"sub": "somebody", "exp": int(time.time()) + 3_600, **claims}
    return jwt.encode(everything, SECRET, algorithm="HS256")


class LiveService:
    """A server on a port of its own, which it gets again after a restart, and a worker."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._settings = Settings(
            redis=RedisSettings(url=redis_url),
            queue=QueueSettings(namespace=f"sdk{os.getpid()}-{next(_numbers)}"),
            auth=AuthSettings(enabled=True, api_keys=(API_KEY,), jwt_secret=SECRET),
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "service.log"
        self._arguments = ("-m", "taskqueue_server", "--port", str(port))
        self._server: subprocess.Popen[bytes] | None = None
        self._worker = self._run("-m", "taskqueue_core.worker")
        try:
            self.start()
            eventually(self._has_worker, "no worker comes")
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server; it answers when this returns."""
        self._server = self._run(*self._arguments)
        eventually(self._answers, "the server does not start")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server."""
        assert self._server is not None
        self._server.send_signal(number)
        self._server.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Stop everything."""
        for process in (self._server, self._worker):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(PATIENCE_SECONDS)

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            environ = child_environ(self._settings, os.environ)
            command = [sys.executable, *arguments]
            return subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def _has_worker(self) -> bool:
        answer = httpx.get(f"{self.url}/admin/workers", headers={"X-API-Key": API_KEY})
        return bool(answer.json()["count"])
