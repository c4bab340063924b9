"""The HTTP side of the commands: one call, one answer, one kind of error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx

from taskqueue_core.states import TERMINAL

_TASKS: Final = "api/v1/tasks"
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
#: Too many requests, and a broker that is away or full: asking again later may help.
_PASSING: Final = frozenset({429, 503})
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0


class ApiError(Exception):
    """Raised when the server refuses, or does not answer.

    ``is_passing`` tells whether asking again later may help.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class Api:
    """The tasks of one server."""

    def __init__(self, server: str, api_key: str | None) -> None:
        """Connect to nothing yet.

        Raises:
            ApiError: the URL or the key cannot be one.
        """
        try:
            url = httpx.URL(server)
        except httpx.InvalidURL as error:
            raise ApiError(f"the server's URL cannot be used: {error}") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ApiError("the server's URL should look like http://127.0.0.1:8080")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ApiError("the API key holds characters that no key has")
        self._shown = str(url.copy_with(userinfo=b""))
        self._http = httpx.Client(
            base_url=url,
            headers={"X-API-Key": api_key} if api_key else {},
            timeout=_TIMEOUT,
            # No proxy can reach what listens on this machine's loopback.
            trust_env=url.host not in _LOOPBACK,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def create(self, body: bytes) -> dict[str, Any]:
        """Submit a task; return it."""
        return self._call("POST", _TASKS, body)

    def get(self, task_id: str) -> dict[str, Any]:
        """Return a task as it is now."""
        return self._call("GET", f"{_TASKS}/{quote(task_id, safe='')}")

    def cancel(self, task_id: str, *, running: bool = False) -> dict[str, Any]:
        """Cancel a task, or with ``running`` have its worker asked to stop it; return it."""
        query = "?running=true" if running else ""
        return self._call("DELETE", f"{_TASKS}/{quote(task_id, safe='')}{query}")

    def wait(self, task: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the task once it has ended, or as it was last seen when the time is up.

        A server that goes away meanwhile is given the rest of the time to come back.
        """
        end = time.monotonic() + seconds
        for pause in _pauses():
            left = end - time.monotonic()
            if task["state"] in TERMINAL or left <= 0:
                break
            time.sleep(min(pause, left))
            try:
                task = self.get(task["id"])
            except ApiError as error:
                if not error.is_passing:
                    raise
        return task

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(method, path, content=body, headers=headers)
        except httpx.ConnectError as error:
            raise ApiError(
                f"cannot reach {self._shown}: {error}. Start a server with `taskqueue-server` "
                "(--dev adds a worker), or name another one with --server or TQ_SERVER.",
                is_passing=True,
            ) from error
        except httpx.TransportError as error:
            doubt = " The task may have been accepted all the same." if method == "POST" else ""
            problem = str(error) or type(error).__name__
            raise ApiError(
                f"{self._shown} did not answer: {problem}.{doubt}", is_passing=True
            ) from error
        return self._read(response)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and isinstance(answer, dict) and {"id", "state"} <= answer.keys():
            return answer
        status = response.status_code
        message = answer.get("message") if isinstance(answer, dict) else None
        if not response.is_error or not isinstance(message, str):
            message = (
                f"{self._shown} answered {status} without a task or a reason: "
                "is it a taskqueue server?"
            )
        raise ApiError(message, is_passing=status in _PASSING)


def _pauses() -> Iterator[float]:
    """Yield how long to pause before each further look, in seconds: short, then longer."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
