"""What the commands make of the answers of a server, and of none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from taskqueue_core.cli.app import app
from taskqueue_core.processes import bind_listener
from taskqueue_core.states import TaskState

TASK_ID = "01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00"
CODES = {"completed": 0, "failed": 1, "dead_letter": 1, "cancelled": 1}


class Canned(BaseHTTPRequestHandler):
    """Gives prepared answers in order, the last one for ever, and keeps the requests."""

    answers: ClassVar[list[tuple[int, bytes]]] = []
    requests: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def do_GET(self) -> None:
        """Answer."""
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.requests.append((self.command, self.path, headers, self.rfile.read(length)))
        status, body = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if status == 0:  # hang up
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815 -- the base class calls them so

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the URL of a server with canned answers."""
    Canned.answers, Canned.requests = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def task(state: str, **fields: Any) -> tuple[int, bytes]:
    """Return the answer that shows a task."""
    return 200, json.dumps({"id": TASK_ID, "state": state, **fields}).encode()


def run(*arguments: str, server: str, **environ: str) -> tuple[int, str, str]:
    """Run a command against a server; return its exit code and its two outputs."""
    result = CliRunner(env={"TQ_SERVER": server, **environ}).invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("state", TaskState)
def test_exit_code_tells_the_state(server: str, state: str) -> None:
    """A script learns from the exit code how a task stands."""
    Canned.answers = [task(state)]
    code, out, err = run("get", TASK_ID, server=server)
    assert (code, err) == (CODES.get(state, 4), "")
    assert json.loads(out) == {"id": TASK_ID, "state": state}


def test_wait_looks_again_until_the_end(server: str) -> None:
    """It outlives a server that is away for a moment."""
    away = [(503, b"{}"), (429, b"{}"), (0, b"")]
    Canned.answers = [task("running"), *away, task("retrying"), task("completed")]
    code, out, _ = run("get", TASK_ID, "--wait", "20", server=server)
    assert (code, json.loads(out)["state"], len(Canned.requests)) == (0, "completed", 6)


def test_wait_stops_where_waiting_cannot_help(server: str) -> None:
    """A task that is gone will not come back."""
    Canned.answers = [task("running"), (404, b'{"message": "task not found"}')]
    assert run("get", TASK_ID, "--wait", "20", server=server) == (
        1,
        "",
        "taskqueue: task not found\n",
    )


def test_wait_ends_in_time(server: str) -> None:
    """The task is shown as it was last seen."""
    Canned.answers = [task("pending"), task("running")]
    code, out, _ = run("get", TASK_ID, "--wait", "0.06", server=server)
    assert (code, json.loads(out)["state"]) == (4, "running")


def test_submit_without_wait_is_content_with_any_state(server: str) -> None:
    """An accepted task is a success; with --wait 0 it is looked at like any other."""
    Canned.answers = [task("pending")]
    assert run("submit", "echo", server=server)[0] == 0
    assert run("submit", "echo", "--wait", "0", server=server)[0] == 4


def test_request_of_submit(server: str) -> None:
    """Every flag arrives in its field, the key in its header."""
    Canned.answers = [task("pending")]
    flags = "--priority high --max-retries 0 --timeout 9 --queue mail --metadata a=b"
    arguments = ["submit", "echo", "--payload", '{"n":1}', "--at", "2030-01-01T00:00:00Z"]
    run(*arguments, *flags.split(), server=f"{server}/behind/", TQ_API_KEY="k-1")
    [(method, path, headers, body)] = Canned.requests
    assert (method, path) == ("POST", "/behind/api/v1/tasks")
    assert (headers["x-api-key"], headers["content-type"]) == ("k-1", "application/json")
    assert json.loads(body) == {
        "type": "echo",
        "payload": {"n": 1},
        "priority": 2,
        "max_retries": 0,
        "timeout": 9,
        "queue": "mail",
        "scheduled_at": "2030-01-01T00:00:00Z",
        "metadata": {"a": "b"},
    }


def test_id_cannot_leave_its_place_in_the_path(server: str) -> None:
    """An id is one segment of the path, whatever it holds."""
    Canned.answers = [task("cancelled")]
    run("cancel", "a/b?c#d", server=server)
    assert [request[:2] for request in Canned.requests] == [
        ("DELETE", "/api/v1/tasks/a%2Fb%3Fc%23d")
    ]


def test_running_tasks_are_stopped_only_on_request(server: str) -> None:
    """The flag is a parameter of the request; without it there is none."""
    Canned.answers = [task("running")]
    for flags in ([], ["--running"]):
        assert run("cancel", TASK_ID, *flags, server=server)[0] == 0
    path = f"/api/v1/tasks/{TASK_ID}"
    assert [request[1] for request in Canned.requests] == [path, path + "?running=true"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, b'{"message": "the API key is unknown"}'), "the API key is unknown"),
        ((400, b'{"message": "bad \\u001b[2J\\u009b"}'), "bad \\u001b[2J\\u009b"),
        ((500, b"<html>"), "answered 500 without a task or a reason"),
        ((502, b'{"message": 5}'), "answered 502 without a task or a reason"),
        ((200, b"[]"), "answered 200 without a task or a reason"),
        ((301, b""), "answered 301 without a task or a reason"),
        ((0, b""), "did not answer: Server disconnected"),
    ],
)
def test_refusals(server: str, answer: tuple[int, bytes], message: str) -> None:
    """The reason is the server's own; without one the address is doubted. Nothing is on stdout."""
    Canned.answers = [answer]
    code, out, err = run("get", TASK_ID, server=server)
    assert (code, out, message in err) == (1, "", True)


def test_submission_that_got_no_answer_may_have_been_accepted(server: str) -> None:
    """Whoever would submit again is warned."""
    Canned.answers = [(0, b"")]
    assert "may have been accepted" in run("submit", "echo", server=server)[2]


def test_no_server() -> None:
    """The message names the address, without a password in it, and what to start."""
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    code, out, err = run("get", TASK_ID, server=f"http://me:secret@127.0.0.1:{port}")
    assert (code, out, "secret" in err) == (1, "", False)
    assert f"cannot reach http://127.0.0.1:{port}" in err
    assert "taskqueue-server" in err


@pytest.mark.parametrize(
    ("server", "key", "message"),
    [
        ("localhost:8080", "", "should look like http://127.0.0.1:8080"),
        ("ftp://127.0.0.1", "", "should look like"),
        ("http://x:port", "", "cannot be used"),
        ("http://127.0.0.1:1", "k\u00e9y", "API key holds characters"),
        ("http://127.0.0.1:1", "k\ny", "API key holds characters"),
    ],
)
def test_addresses_and_keys_that_cannot_be(server: str, key: str, message: str) -> None:
    """They are refused before anything is sent."""
    code, out, err = run("get", TASK_ID, server=server, TQ_API_KEY=key)
    assert (code, out, message in err) == (1, "", True)


def test_loopback_needs_no_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment cannot be the way to this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    Canned.answers = [task("completed")]
    assert run("get", TASK_ID, server=server)[0] == 0
