"""From the shell: run the embedded broker alone, and audit a queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from taskqueue_core.broker import Broker
from taskqueue_core.broker.embedded import EmbeddedBroker, find_live
from taskqueue_core.models import NewTask
from taskqueue_core.processes import bind_listener
from taskqueue_core.settings import Settings

COMMAND = [sys.executable, "-c", "from taskqueue_core.cli import main; main()"]


def environ(**more: str) -> dict[str, str]:
    """Return this process's environment with no other setting than these."""
    return {name: value for name, value in os.environ.items() if "TASKQUEUE" not in name} | more


def taskqueue(place: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run the command in a directory; return its exit code and its two outputs."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=place,
        env=environ(**settings),
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def address() -> str:
    """Return an address on which nothing listens."""
    with bind_listener("127.0.0.1", 0) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def foreground(place: Path, address: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a ``taskqueue broker`` that is ready, and the URL it prints."""
    with subprocess.Popen(
        [*COMMAND, "broker"],
        cwd=place,
        env=environ(TASKQUEUE_REDIS_ADDR=address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_broker_in_the_foreground(tmp_path: Path, address: str, number: int) -> None:
    """It prints the URL that reaches it, runs until it is told to stop, and keeps its data."""
    with foreground(tmp_path, address) as (process, url):
        assert address in url
        with redis.Redis.from_url(url) as client:
            assert client.set("kept", "yes")
        process.send_signal(number)
        assert process.wait(20) == 0
    assert find_live(tmp_path / ".taskqueue") is None
    with foreground(tmp_path, address) as (_, url), redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_broker_that_dies_is_started_again(tmp_path: Path, address: str) -> None:
    """The command keeps a broker running, at the same address."""
    with foreground(tmp_path, address) as (process, url):
        assert process.stderr is not None
        process.stderr.readline()
        with redis.Redis.from_url(url) as client:
            pid = client.info("server")["process_id"]
            os.kill(pid, signal.SIGKILL)
            assert "started again" in process.stderr.readline()
        with redis.Redis.from_url(url) as client:
            assert client.info("server")["process_id"] != pid


def test_second_broker_is_the_first(tmp_path: Path, address: str) -> None:
    """Asked for again in the same place, the one that runs is named and left alone."""
    with foreground(tmp_path, address) as (process, url):
        code, out, err = taskqueue(tmp_path, "broker", TASKQUEUE_REDIS_ADDR=address)
        assert (code, out.strip(), "runs already" in err) == (0, url, True)
        assert process.poll() is None


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("redis.example.org:6379", "redis.addr names redis.example.org"),
        ("127.0.0.1:0", "a port up to 65535"),
        ("127.0.0.1:65536", "a port up to 65535"),
    ],
)
def test_broker_is_for_this_machine(tmp_path: Path, address: str, message: str) -> None:
    """An address it cannot have is refused before anything starts."""
    code, out, err = taskqueue(tmp_path, "broker", TASKQUEUE_REDIS_ADDR=address)
    assert (code, out, message in err) == (2, "", True)
    assert not (tmp_path / ".taskqueue").exists()


def test_port_that_is_taken(tmp_path: Path) -> None:
    """The message is the broker's own reason."""
    with bind_listener("127.0.0.1", 0) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        code, _, err = taskqueue(tmp_path, "broker", TASKQUEUE_REDIS_ADDR=taken)
    assert (code, "Address already in use" in err) == (2, True)


def test_audit_of_nothing_leaves_nothing_running(tmp_path: Path) -> None:
    """Without a broker one is started for as long as the audit takes."""
    code, out, err = taskqueue(tmp_path, "audit")
    assert (code, err) == (0, "")
    assert out.startswith(
        "clean: every task is in its place (unfinished: 0, dead letters: 0; unix:"
    )
    assert find_live(tmp_path / ".taskqueue") is None


def test_audit_of_a_living_broker_leaves_it_running(tmp_path: Path) -> None:
    """A broker that somebody else started is only looked at."""
    with EmbeddedBroker(tmp_path / ".taskqueue") as embedded:
        assert taskqueue(tmp_path, "audit")[0] == 0
        assert find_live(tmp_path / ".taskqueue") == embedded.url


@pytest.mark.anyio
async def test_audit_finds_what_is_out_of_place(
    tmp_path: Path, broker: Broker, settings: Settings
) -> None:
    """A task that is nowhere is named, and the exit code is 1."""
    arguments = ("audit", "--redis-url", settings.redis.url)
    variables = {"TASKQUEUE_QUEUE_NAMESPACE": settings.queue.namespace}
    await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))
    code, out, _ = taskqueue(tmp_path, *arguments, **variables)
    assert (code, "unfinished: 1" in out) == (0, True)
    lost = broker.partitions[0].task("0" * 32)
    await broker.redis.hset(lost, mapping={"s": "p"})
    code, out, _ = taskqueue(tmp_path, *arguments, **variables)
    assert (code, f"task {'0' * 32} is pending but in: nowhere" in out) == (1, True)
    await broker.redis.delete(lost)


def test_audit_without_the_broker_that_is_named(tmp_path: Path, address: str) -> None:
    """Where nothing could be checked nothing is called clean."""
    code, out, err = taskqueue(tmp_path, "audit", "--redis-url", f"redis://{address}")
    assert (code, out, "cannot be reached" in err) == (2, "", True)
