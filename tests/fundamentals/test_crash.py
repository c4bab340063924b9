"""What a newcomer fears most: kill -9 in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from system import System, wait_for


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started, and theirs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [child for child, parent in pairs if parent == pid]
    return found + [grandchild for child in found for grandchild in children_of(child)]


def is_alive(pid: int) -> bool:
    """Tell whether a process still runs; one that is only not yet reaped does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_kill_9_of_the_server_leaves_nothing_behind_and_loses_nothing(tmp_path: Path) -> None:
    """Broker, server process and worker end with their parent; the next start finishes the work."""
    system = System(
        tmp_path, TASKQUEUE_WORKER_HEARTBEATTIMEOUT="2s", TASKQUEUE_WORKER_HEARTBEATINTERVAL="500ms"
    )
    tasks = [system.submit(type="sleep", payload={"duration": 300})["id"] for _ in range(30)]
    assert wait_for(lambda: system.http.get("/api/v1/tasks").json()["totals"]["pending_unacked"])
    started = children_of(system.process.pid)
    assert len(started) >= 3  # broker, server, worker
    system.http.close()
    os.kill(system.process.pid, signal.SIGKILL)
    system.process.wait()
    assert wait_for(lambda: not any(map(is_alive, started)), 5), [*filter(is_alive, started)]
    again = System(
        tmp_path, TASKQUEUE_WORKER_HEARTBEATTIMEOUT="2s", TASKQUEUE_WORKER_HEARTBEATINTERVAL="500ms"
    )
    try:
        for task_id in tasks:
            again.wait(task_id, "completed", 20)
    finally:
        assert again.stop() == 0
