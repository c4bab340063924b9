"""Several processes as one: restarts, stops and ends are the whole system's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from deadline import is_running, wait_until

from taskqueue_core import errors
from taskqueue_core.errors import SettingsError
from taskqueue_core.processes import (
    PARENT_PIPE_VARIABLE,
    ChildSpec,
    RestartPolicy,
    Supervisor,
    bind_listener,
    watch_parent,
)

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(errors.__file__).parents[1])}
PARENT = """
import logging, sys
from pathlib import Path
from taskqueue_core import processes
from taskqueue_core.processes import ChildSpec, RestartPolicy, Supervisor
logging.basicConfig(level="INFO", format="%(message)s")
children = [ChildSpec(name=f"child{i}", argv=["sh", "-c", code])
            for i, code in enumerate(sys.argv[2:])]
options = {}
exec(sys.argv[1])
sys.exit(Supervisor(children, **options).run())
"""
# A child that notes its pid and each SIGTERM, and then ends as told.
NOTING = "trap 'echo term >> {file}; {then}' TERM; echo $$ >> {file}; while :; do sleep 0.02; done"


@contextmanager
def supervised(*children: str, options: str = "") -> Iterator[subprocess.Popen[str]]:
    """A parent process that supervises shell commands, killed at the end of the test.

    ``options`` is code that fills the dictionary of that name, the Supervisor's arguments.
    """
    command = [sys.executable, "-c", PARENT, options, *children]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def pids(path: Path) -> list[int]:
    return [int(line) for line in lines(path) if line.isdigit()]


def output(process: subprocess.Popen[str]) -> str:
    """What the parent said until its end."""
    return process.communicate(timeout=10)[1]


def noting(path: Path, then: str = "exit 0") -> str:
    return NOTING.format(file=path, then=then)


def test_quick_deaths_are_counted_and_slow_ones_forgiven() -> None:
    """Only deaths soon after the start, in a row, end a child for good."""
    policy = RestartPolicy(quick_seconds=5)
    assert policy.count_death(3, lived_seconds=4.9) == 4
    assert policy.count_death(3, lived_seconds=5.0) == 0


@pytest.mark.parametrize(
    ("deaths", "delay"), [(0, 0.1), (1, 0.1), (2, 0.2), (4, 0.8), (7, 5.0), (900, 5.0)]
)
def test_the_delay_before_a_restart_doubles_up_to_its_cap(deaths: int, delay: float) -> None:
    """A child that keeps dying costs less and less."""
    assert RestartPolicy().delay_seconds(deaths) == pytest.approx(delay)


def test_a_killed_child_is_replaced_and_the_other_untouched(tmp_path: Path) -> None:
    """kill -9 of one child starts that one again, and the stop after it is a clean one."""
    one, two = tmp_path / "one", tmp_path / "two"
    with supervised(noting(one), noting(two)) as parent:
        wait_until(lambda: pids(one) and pids(two), "both started")
        os.kill(pids(one)[0], signal.SIGKILL)
        wait_until(lambda: len(pids(one)) == 2, "the killed one started again")
        assert len(pids(two)) == 1
        parent.terminate()
        assert "child0 ended with SIGKILL; starting it again in 0.1 s" in output(parent)
        assert parent.returncode == 0
        assert not any(map(is_running, pids(one) + pids(two)))


def test_a_refused_configuration_ends_everything_at_once(tmp_path: Path) -> None:
    """Exit code 2 is not worth a second try, and becomes the code of the whole."""
    path = tmp_path / "other"
    waiting = f"until [ -s {path} ]; do sleep 0.02; done; exit 2"
    with supervised(noting(path), waiting) as parent:
        assert "child1 refuses its configuration" in output(parent)
        assert parent.returncode == 2
        assert lines(path)[1:] == ["term"]


@pytest.mark.parametrize(("code", "expected"), [(7, 7), (0, 1)])
def test_a_child_that_cannot_stay_alive_ends_everything(
    tmp_path: Path, code: int, expected: int
) -> None:
    """After the fifth quick death in a row the parent gives up, never with success."""
    path = tmp_path / "starts"
    options = "options['restarts'] = RestartPolicy(first_seconds=0.01)"
    with supervised(f"echo $$ >> {path}; exit {code}", options=options) as parent:
        assert f"ended 5 times in a row within 5 s of its start, last with exit code {code}" in (
            output(parent)
        )
        assert parent.returncode == expected
        assert len(pids(path)) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_reaches_every_child_once(tmp_path: Path, number: signal.Signals) -> None:
    """As one SIGTERM each, however the parent was told; even when the whole group was."""
    one, two = tmp_path / "one", tmp_path / "two"
    slow = "sleep 0.2; exit 0"
    with supervised(noting(one, slow), noting(two, slow)) as parent:
        wait_until(lambda: pids(one) and pids(two), "both started")
        os.killpg(parent.pid, number)
        output(parent)
        assert parent.returncode == 0
        assert lines(one)[1:] == lines(two)[1:] == ["term"]


def test_a_second_signal_is_passed_on_and_shortens_the_wait(tmp_path: Path) -> None:
    """It arrives at the child too, and the grace becomes the hurried one."""
    path = tmp_path / "child"
    options = "options.update(grace_seconds=60, hurry_seconds=0.5)"
    with supervised(noting(path, ":"), options=options) as parent:
        wait_until(lambda: pids(path), "started")
        parent.terminate()
        wait_until(lambda: lines(path)[1:] == ["term"], "the first signal arrived")
        parent.terminate()
        assert "did not stop in time; killing it" in output(parent)
        assert lines(path)[1:] == ["term", "term"]
        assert parent.returncode == 137


def test_what_outstays_the_grace_is_killed_with_what_it_started(tmp_path: Path) -> None:
    """A stop is bounded, and grandchildren do not survive it."""
    path = tmp_path / "pids"
    stubborn = f"trap '' TERM; sleep 60 & echo $! >> {path}; echo $$ >> {path}; wait; sleep 60"
    with supervised(stubborn, options="options['grace_seconds'] = 0.2") as parent:
        wait_until(lambda: len(pids(path)) == 2, "child and grandchild started")
        parent.terminate()
        output(parent)
        assert parent.returncode == 137
        wait_until(lambda: not any(map(is_running, pids(path))), "both are gone")


def test_a_child_that_stops_badly_is_reported(tmp_path: Path) -> None:
    """Its code becomes the parent's, so that what was left undone is not called success."""
    one, two = tmp_path / "one", tmp_path / "two"
    with supervised(noting(one), noting(two, "exit 3")) as parent:
        wait_until(lambda: pids(one) and pids(two), "both started")
        parent.terminate()
        assert "child1 did not stop well: exit code 3" in output(parent)
        assert parent.returncode == 3


FAILING_HOUSEKEEPING = """
processes._HOUSEKEEPING_SECONDS = 0.05
def fail():
    with open("{file}", "a") as file:
        file.write("called\\n")
    raise ValueError("not today")
options["housekeeping"] = fail
"""


def test_housekeeping_goes_on_after_its_own_failure(tmp_path: Path) -> None:
    """It is called again and again, and what it raises does not end the children."""
    child, calls = tmp_path / "child", tmp_path / "calls"
    with supervised(noting(child), options=FAILING_HOUSEKEEPING.format(file=calls)) as parent:
        wait_until(lambda: len(lines(calls)) >= 2, "called twice")
        parent.terminate()
        assert "housekeeping failed" in output(parent)
        assert parent.returncode == 0
        assert len(pids(child)) == 1


OWN_CHILD = """
import signal, subprocess, sys, time
from taskqueue_core.processes import watch_parent
def obey(*_):
    print("asked", file=open(sys.argv[1], "a"), flush=True)
    if sys.argv[2] == "obey":
        sys.exit(0)
signal.signal(signal.SIGTERM, obey)
assert watch_parent(grace_seconds=0.5)
below = subprocess.Popen(["sleep", "60"]) if sys.argv[2] == "ignore" else None
with open(sys.argv[1], "a") as file:
    print(*([below.pid] if below else []), subprocess.os.getpid(), sep="\\n", file=file)
while True:
    time.sleep(60)
"""


def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    """One that obeys ends by SIGTERM; one that does not is asked twice, then killed."""
    good, bad, script = tmp_path / "good", tmp_path / "bad", tmp_path / "child.py"
    script.write_text(OWN_CHILD)
    command = f"exec {sys.executable} {script}"
    with supervised(f"{command} {good} obey", f"{command} {bad} ignore") as parent:
        wait_until(lambda: len(pids(good)) == 1 and len(pids(bad)) == 2, "all started")
        parent.kill()
        everyone = pids(good) + pids(bad)
        wait_until(lambda: not any(map(is_running, everyone)), "nobody is left")
    assert lines(good).count("asked") == 1
    assert lines(bad).count("asked") == 2


def test_the_parents_pipe_is_claimed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Supervisor there is nothing to watch, and grandchildren inherit no claim."""
    monkeypatch.delenv(PARENT_PIPE_VARIABLE, raising=False)
    assert not watch_parent()
    code = (
        "import os; from taskqueue_core.processes import *; from taskqueue_core import processes;"
        "fd = int(os.environ[processes.PARENT_PIPE_VARIABLE]);"
        "print(processes.watch_parent(), processes.watch_parent(), os.get_inheritable(fd))"
    )
    reader, writer = os.pipe()
    environment = {**ENVIRONMENT, PARENT_PIPE_VARIABLE: str(reader)}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        pass_fds=[reader],
        capture_output=True,
        check=True,
    )
    os.close(reader)
    os.close(writer)
    assert answer.stdout.split() == [b"True", b"False", b"False"]


def test_a_command_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    """The children started before it are ended, and our signal handlers are the old ones."""
    path = tmp_path / "pid"
    before = signal.getsignal(signal.SIGTERM)
    children = [
        ChildSpec(name="good", argv=["sh", "-c", f"echo $$ > {path}; exec sleep 60"]),
        ChildSpec(name="bad", argv=[str(tmp_path / "absent")], env={}),
    ]
    with pytest.raises(SettingsError, match="cannot start bad"):
        Supervisor(children).run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not any(map(is_running, pids(path)))


def test_a_supervisor_belongs_to_the_main_thread() -> None:
    """Elsewhere it would never hear a signal."""
    caught: list[BaseException] = []

    def run() -> None:
        with pytest.raises(RuntimeError, match="main thread") as error:
            Supervisor([]).run()
        caught.append(error.value)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1


SERVING_CHILD = """
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    connection, _ = listener.accept()
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""


def test_children_share_a_listener_bound_once() -> None:
    """Port 0 is one port for all; each child of two answers one of two connections."""
    with closing(bind_listener("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        command = [sys.executable, "-c", SERVING_CHILD, str(fd)]
        children = [subprocess.Popen(command, pass_fds=[fd]) for _ in range(2)]
        answers = set()
        for _ in children:
            with closing(socket.create_connection(listener.getsockname(), timeout=5)) as client:
                answers.add(int(client.recv(100)))
        assert [child.wait(5) for child in children] == [0, 0]
        assert answers == {child.pid for child in children}


def test_a_port_in_use_is_a_clear_error() -> None:
    """A second server does not share the port unnoticed."""
    with closing(bind_listener("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}: Address already in use"):
            bind_listener("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 64])
def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    """Neither another machine's address nor an impossible name ends in a traceback."""
    with pytest.raises(SettingsError, match=f"cannot listen on {host}"):
        bind_listener(host, 0)


def test_a_name_with_both_kinds_of_address_listens_on_ipv4() -> None:
    """localhost means 127.0.0.1 to most clients."""
    with closing(bind_listener("localhost", 0)) as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "127.0.0.1"


BROKER_OWNER = """
from taskqueue_core.broker.embedded import EmbeddedBroker
processes._HOUSEKEEPING_SECONDS = 0.05
broker = EmbeddedBroker(Path("{data_dir}")).start_or_adopt()
options["housekeeping"] = broker.revive
"""


def test_a_parent_keeps_its_embedded_broker_alive_and_takes_it_along(tmp_path: Path) -> None:
    """The whole of a one-command system: the broker is revived, and ends with the parent."""
    child, note = tmp_path / "child", tmp_path / "data" / "broker.json"

    def broker_pid() -> int:
        return int(json.loads(note.read_text())["pid"])

    with supervised(noting(child), options=BROKER_OWNER.format(data_dir=note.parent)) as parent:
        wait_until(lambda: pids(child), "everything started")
        first = broker_pid()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: broker_pid() != first, "the broker was started again")
        assert len(pids(child)) == 1
        parent.kill()
        wait_until(lambda: not is_running(broker_pid()), "the broker ended with the parent")
        os.kill(pids(child)[0], signal.SIGKILL)  # a shell does not watch its parent
