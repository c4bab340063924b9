"""From the shell: submit a task, wait for it, look at it, cancel it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taskqueue_core.cli.app import app

#: ``taskqueue(...)`` runs the command and returns its exit code, the task and its messages.
Command = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of ``taskqueue-server --dev``: one command is a whole system."""
    place: Path = tmp_path_factory.mktemp("system")
    with subprocess.Popen(
        [sys.executable, "-m", "taskqueue_server", "--dev", "--port", "0"],
        cwd=place,
        env={name: value for name, value in os.environ.items() if "TASKQUEUE" not in name},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        yield json.loads(process.stderr.readline())["url"]
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def taskqueue(server: str) -> Command:
    """Return the command ``taskqueue``, pointed at the server by its variable."""

    def run(*arguments: str, stdin: str = "") -> tuple[int, dict[str, Any], str]:
        done = CliRunner(env={"TQ_SERVER": server}).invoke(app, arguments, input=stdin)
        return done.exit_code, json.loads(done.stdout or "{}"), done.stderr

    return run


def test_submit_and_wait(taskqueue: Command) -> None:
    """One command submits a task, waits for its end and prints its result."""
    code, task, _ = taskqueue("submit", "echo", "--payload", '{"hello": "world"}', "--wait", "30")
    assert (code, task["state"]) == (0, "completed")
    assert task["result"]["echoed"] == {"hello": "world"}


def test_submit_then_get(taskqueue: Command) -> None:
    """A task can be looked at later, by its id, and waited for then."""
    code, submitted, _ = taskqueue("submit", "sleep", "--payload", '{"duration": 200}')
    assert (code, submitted["state"]) == (0, "pending")
    code, task, _ = taskqueue("get", submitted["id"], "--wait", "30")
    assert (code, task["state"], task["id"]) == (0, "completed", submitted["id"])


def test_payload_arrives_exactly(taskqueue: Command) -> None:
    """A payload from standard input reaches the handler as it is, large numbers too."""
    payload = '{"n": 123456789012345678901234567890, "text": "grüße"}'
    code, task, _ = taskqueue("submit", "echo", "--payload", "-", "--wait", "30", stdin=payload)
    assert (code, task["result"]["echoed"]) == (0, json.loads(payload))


def test_failure_is_an_exit_code(taskqueue: Command) -> None:
    """A task that ends badly makes the command fail."""
    code, task, _ = taskqueue("submit", "fail", "--max-retries", "0", "--wait", "30")
    assert (code, task["state"]) == (1, "dead_letter")
    assert "intentional failure" in task["error"]


def test_schedule_and_cancel(taskqueue: Command) -> None:
    """A scheduled task waits for its time, and can be cancelled until then."""
    code, task, _ = taskqueue("submit", "echo", "--in", "1h", "--priority", "low", "--metadata=a=b")
    assert (code, task["state"]) == (0, "scheduled")
    assert (task["priority"], task["metadata"]) == ("low", {"a": "b"})
    assert taskqueue("get", task["id"])[0] == 4
    code, cancelled, _ = taskqueue("cancel", task["id"])
    assert (code, cancelled["state"]) == (0, "cancelled")
    assert taskqueue("get", task["id"])[0] == 1


def test_stop_a_running_task(taskqueue: Command) -> None:
    """A task that runs is stopped only on request, and ends as cancelled."""
    _, task, _ = taskqueue("submit", "sleep", "--payload", '{"duration_seconds": 600}')
    end = time.monotonic() + 30
    while taskqueue("get", task["id"])[1]["state"] != "running":
        assert time.monotonic() < end
    code, _, message = taskqueue("cancel", task["id"])
    assert (code, "with running=true" in message) == (1, True)
    code, asked, _ = taskqueue("cancel", task["id"], "--running")
    assert (code, asked["id"]) == (0, task["id"])
    code, cancelled, _ = taskqueue("get", task["id"], "--wait", "30")
    assert (code, cancelled["state"], cancelled["attempts"]) == (1, "cancelled", 1)


def test_refusal_says_why(taskqueue: Command) -> None:
    """What the server refuses is explained in its own words, and stdout stays empty."""
    code, task, message = taskqueue("submit", "echo", "--timeout", "0")
    assert (code, task) == (1, {})
    assert message == "taskqueue: timeout: 0 is less than the minimum of 1\n"
    code, task, message = taskqueue("cancel", "no-such-task")
    assert (code, task) == (1, {})
    assert message == "taskqueue: task no-such-task not found\n"
