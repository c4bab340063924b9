"""Handlers in child processes: what they do to their process costs them alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import daring
import pytest
from crew import Crew, delivery, eventually

from taskqueue_core.models import Outcome, OutcomeKind
from taskqueue_core.settings import PluginSettings, QueueSettings, Settings, WorkerSettings
from taskqueue_core.worker import subprocesses
from taskqueue_core.worker.subprocesses import Children

pytestmark = pytest.mark.anyio

COMPLETE, FAIL, RELEASE = OutcomeKind.COMPLETE, OutcomeKind.FAIL, OutcomeKind.RELEASE
START_SECONDS = 20


@pytest.fixture
def settings() -> Settings:
    """Return settings with a timeout of 0.3 s for all that says nothing else."""
    return Settings(
        queue=QueueSettings(default_timeout_seconds=0.3),
        worker=WorkerSettings(concurrency=2, max_result_bytes=2**20 + 2),
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory in which the handlers are an installed plugin, also for children."""
    info = tmp_path / "daring-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daring\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[taskqueue.plugins]\nmain = daring\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
async def crew(settings: Settings, place: Path) -> AsyncIterator[Crew]:
    """Yield an executor with children; none of them is left over."""
    crew = Crew(settings, daring)
    crew.executor.children = children = Children(settings)
    yield crew
    pids = children.pids
    crew.executor.release_all()
    assert await crew.executor.stopped(5) == 0
    assert children.pids == []
    assert not any(is_there(pid) for pid in pids)
    crew.executor.close()


def is_there(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def outcome_of(crew: Crew, task_type: str, number: int = 1, **fields: Any) -> Outcome:
    """Run one delivery after all others; its payload may be given as ``payload``."""
    if "payload" in fields:
        fields["body"] = json.dumps([fields.pop("payload")]).encode()
    before = len(crew.outcomes)
    crew.executor.start(delivery(task_type, number, **fields))
    await eventually(
        lambda: len(crew.outcomes) > before, "an outcome", within_seconds=START_SECONDS
    )
    return crew.outcomes[-1]


async def result_of(crew: Crew, task_type: str, number: int = 1, **fields: Any) -> Any:
    """Run one delivery and return its result."""
    outcome = await outcome_of(crew, task_type, number, **fields)
    assert outcome.kind is COMPLETE, outcome.value
    return json.loads(outcome.value)


async def noted(note: Path) -> int:
    """Return the process id that a handler writes down."""

    def read() -> str:
        return note.read_text() if note.exists() else ""

    await eventually(read, "a note", within_seconds=START_SECONDS)
    return int(read())


@pytest.mark.parametrize("task_type", ["plain", "coroutine"])
async def test_a_child_knows_the_task_and_is_used_again(crew: Crew, task_type: str) -> None:
    """What a handler sees is the same as in the worker; one child runs task after task."""
    told = await result_of(crew, task_type, body=b'[{"a":1},{"b":"c"}]', attempts=2)
    assert told["payload"] == {"a": 1}
    assert told["metadata"] == {"b": "c"}
    assert told["task"][1:] == [task_type, "default", 1, 2, 3]
    assert told["fence"] == "1"
    assert 15 < told["left"] <= 20
    assert crew.executor.children
    assert crew.executor.children.pids == [told["pid"]] != [os.getpid()]
    again = await result_of(crew, task_type, 2)
    assert again["pid"] == told["pid"]


@pytest.mark.parametrize(
    ("task_type", "text"),
    [
        ("segfault", "the handler's process died (signal 11)"),
        ("leave", "the handler's process died (exit code 7)"),
    ],
)
async def test_a_child_that_dies_fails_its_attempt(crew: Crew, task_type: str, text: str) -> None:
    """The attempt may be tried again, the worker goes on with another child."""
    outcome = await outcome_of(crew, task_type)
    assert (outcome.kind, outcome.reason, outcome.value.decode()) == (FAIL, "", text)
    assert json.loads(outcome.history)["traceback"] == ""
    assert (await result_of(crew, "plain", 2))["payload"] == {}


@pytest.mark.parametrize("escapes", [False, True])
async def test_what_a_dead_child_leaves_holds_nothing_up(
    crew: Crew, place: Path, escapes: bool
) -> None:
    """It is killed with its group; where it has left that, nobody waits for its descriptors."""
    note = place / "note"
    outcome = await outcome_of(crew, "fork", payload={"note": str(note), "escapes": escapes})
    assert outcome.value == b"the handler's process died (exit code 8)"
    assert outcome.duration_ms < 5000
    pid = await noted(note)
    if escapes:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_there(pid), "the end of what was forked", within_seconds=1)


@pytest.mark.parametrize("task_type", ["spin", "grip", "start"])
async def test_at_its_deadline_a_child_is_killed(crew: Crew, task_type: str, place: Path) -> None:
    """Whatever it does, and with all that it has started; the time to start it does not count."""
    note = place / "note"
    started = time.monotonic()
    (await result_of(crew, "plain"))
    outcome = await outcome_of(crew, task_type, 2, payload={"note": str(note)})
    assert (outcome.kind, outcome.value) == (FAIL, b"timed out after 0.3 s")
    assert outcome.duration_ms < 1300
    assert crew.executor.stuck == 0
    if task_type == "start":
        pid = await noted(note)
        await eventually(lambda: not is_there(pid), "the end of what the handler started")
    assert time.monotonic() - started < START_SECONDS


async def test_the_start_of_a_child_costs_a_task_no_time(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    """Plugins may take longer to load than a task may take to run."""
    (place / "sitecustomize.py").write_text("import time; time.sleep(0.5)")
    monkeypatch.setenv("PYTHONPATH", str(place))
    assert (await result_of(crew, "fragile", lost_leases=1, timeout_seconds=1))["left"] > 0.5
    outcome = await outcome_of(crew, "spin", 2)
    assert outcome.duration_ms >= 800


@pytest.mark.parametrize("reason", ["the lease was lost", "cancelled on request"])
async def test_who_is_to_stop_is_killed(crew: Crew, place: Path, reason: str) -> None:
    """The task is somebody else's now, or unwanted: nothing of it goes on here."""
    note = place / "note"
    one = delivery("grip", body=json.dumps([{"note": str(note)}]).encode(), timeout_seconds=30)
    crew.executor.start(one)
    pid = await noted(note)
    is_lost = reason == "the lease was lost"
    assert crew.executor.lost(one) if is_lost else crew.executor.cancel(one.digits, one.number)
    await eventually(lambda: crew.outcomes, "the outcome", within_seconds=1)
    assert crew.outcomes[0].value == reason.encode()
    await eventually(lambda: not is_there(pid), "the child's end", within_seconds=1)


async def test_a_stop_kills_what_it_gives_back(crew: Crew, place: Path) -> None:
    """When the worker has no more time, its children have none either."""
    note = place / "note"
    body = json.dumps([{"note": str(note)}]).encode()
    crew.executor.start(delivery("grip", body=body, timeout_seconds=30))
    pid = await noted(note)
    assert crew.executor.release_all() == 1
    assert await crew.executor.stopped(1) == 0
    assert [outcome.kind for outcome in crew.outcomes] == [RELEASE]
    await eventually(lambda: not is_there(pid), "the child's end", within_seconds=1)


async def test_what_has_cost_a_lease_runs_alone(crew: Crew) -> None:
    """Whatever its handler wants, in a child that nobody else had or will have."""
    here = await result_of(crew, "fragile")
    assert here["pid"] == os.getpid()
    common = await result_of(crew, "plain", 2)
    pids = {
        (await result_of(crew, task_type, number, lost_leases=1))["pid"]
        for number, task_type in enumerate(["fragile", "fragile", "plain"], start=3)
    }
    assert len(pids | {here["pid"], common["pid"]}) == 5
    await eventually(lambda: not any(is_there(pid) for pid in pids), "their end")
    assert (await result_of(crew, "plain", 6))["pid"] == common["pid"]


async def test_large_payloads_and_results_pass(crew: Crew) -> None:
    """Both at their limit, and neither side waits for the other for ever."""
    text = "y" * 2**20
    assert (await result_of(crew, "plain", payload={"a": text[:-400]}))["payload"]["a"]
    assert len(await result_of(crew, "big", 2, payload={"length": 2**20})) == 2**20
    outcome = await outcome_of(crew, "big", 3, payload={"length": 2**20 + 1})
    assert (outcome.kind, outcome.reason) == (FAIL, "non_retryable")
    assert b"worker.maxresultbytes allows 1048578" in outcome.value


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("object", FAIL, b"the result cannot be stored as JSON: "),
        ("nan", FAIL, b"the result cannot be stored as JSON: "),
        ("none", COMPLETE, b"null"),
    ],
)
async def test_results_are_checked(crew: Crew, what: str, kind: OutcomeKind, text: bytes) -> None:
    """What has no JSON form fails for good, as it does in the worker."""
    outcome = await outcome_of(crew, "strange", payload={"what": what})
    assert (outcome.kind, outcome.value[: len(text)]) == (kind, text)
    assert outcome.reason == ("non_retryable" if kind is FAIL else "")


async def test_what_is_raised_comes_across(crew: Crew) -> None:
    """Errors with their traceback, and all that steers a task, with the same effect."""
    rows = {
        "error": ("ValueError: bad", "", None),
        "exit": ("SystemExit: 3", "", None),
        "cancelled": ("the handler cancelled itself", "", None),
        "retry": ("busy", "", 7000),
        "crooked": ("the handler asked for a retry", "", None),
        "drop": ("withdrawn", "dropped", None),
        "never": ("no account", "non_retryable", None),
        "invalid": ("invalid payload: $.a", "non_retryable", None),
    }
    for number, (what, (text, reason, delay_ms)) in enumerate(rows.items(), start=1):
        outcome = await outcome_of(crew, "raise", number, payload={"what": what})
        assert (outcome.kind, outcome.value.decode(), outcome.reason) == (FAIL, text, reason)
        assert delay_ms in (None, outcome.delay_ms)
        assert "daring.py" in json.loads(outcome.history)["traceback"]
    outcome = await outcome_of(crew, "raise", len(rows) + 1, body=b"[[]]")
    assert (outcome.reason, b"invalid payload" in outcome.value) == ("non_retryable", True)


async def test_children_are_few_and_end_when_idle(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are slots, also when an idle one is in the way of a lone one."""
    children = crew.executor.children
    assert children
    for number in range(1, 3):
        crew.executor.start(delivery("plain", number))
    await eventually(lambda: len(crew.outcomes) == 2, "both", within_seconds=START_SECONDS)
    both = children.pids
    assert len(both) == 2
    await result_of(crew, "fragile", 3, lost_leases=1)
    assert len(set(both) - set(children.pids)) == 1
    monkeypatch.setattr(subprocesses, "IDLE_SECONDS", 0.2)
    children._sweep()
    await eventually(lambda: not children.pids, "the end of the idle")
    assert (await result_of(crew, "plain", 4))["pid"] not in both


async def test_an_idle_child_that_died_is_not_used(crew: Crew) -> None:
    """Somebody has killed it: the next task gets another one."""
    first = (await result_of(crew, "plain"))["pid"]
    os.kill(first, signal.SIGKILL)
    assert crew.executor.children
    await eventually(lambda: not crew.executor.children.pids, "its end")
    assert (await result_of(crew, "plain", 2))["pid"] != first


async def test_what_a_handler_prints_goes_to_stderr(
    crew: Crew, capfd: pytest.CaptureFixture[str]
) -> None:
    """At once, and not among what the worker itself may print."""
    await result_of(crew, "plain")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "said by a handler\n")


async def test_a_child_leaves_sigterm_to_the_worker(crew: Crew) -> None:
    """It is sent to every process of a service that is stopped, while tasks may finish.

    What a handler has forked obeys, for it is sent to nobody else then.
    """
    first = (await result_of(crew, "plain"))["pid"]
    os.kill(first, signal.SIGTERM)
    assert (await result_of(crew, "plain", 2))["pid"] == first
    assert await result_of(crew, "terminate", 3) == -signal.SIGTERM


async def test_a_child_that_cannot_start_fails_the_attempt(
    settings: Settings, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugins that refuse to load, no process, no handler: said, and tried again later."""
    strict = PluginSettings(prefer={"plain": "no-such"})
    crew = Crew(settings, daring)
    crew.executor.children = Children(settings.model_copy(update={"plugins": strict}))
    outcome = await outcome_of(crew, "plain")
    assert (outcome.kind, outcome.reason) == (FAIL, "")
    assert outcome.value.startswith(b"the handler's process cannot be started: PluginError: ")
    disabled = PluginSettings(disabled=("daring",))
    crew.executor.children = Children(settings.model_copy(update={"plugins": disabled}))
    outcome = await outcome_of(crew, "plain", 2)
    assert b'the child process has no handler "plain"' in outcome.value
    await crew.executor.stopped(1)
    monkeypatch.setattr(subprocesses, "_COMMAND", ("/nonexistent/python",))
    outcome = await outcome_of(crew, "plain", 3)
    assert outcome.value.startswith(b"the handler's process cannot be started: [Errno 2]")


async def test_without_children_everything_runs_here(settings: Settings) -> None:
    """That is for tests of handlers."""
    crew = Crew(settings, daring)
    assert (await result_of(crew, "plain"))["pid"] == os.getpid()
    assert (await result_of(crew, "coroutine", 2, lost_leases=1))["pid"] == os.getpid()
    crew.executor.close()


async def test_a_child_does_not_grow_and_is_fast_enough(crew: Crew) -> None:
    """Two hundred tasks of a megabyte each: it stays as it was, in a few seconds."""
    first = await result_of(crew, "pile")
    started = time.monotonic()
    for number in range(2, 202):
        last = await result_of(crew, "pile", number)
    assert time.monotonic() - started < 10
    assert (last - first) * os.sysconf("SC_PAGE_SIZE") < 4 * 2**20


@pytest.mark.parametrize("task_type", ["start", "grip"])
def test_children_end_with_a_worker_that_is_killed(place: Path, task_type: str) -> None:
    """Also one that lets no thread of its own run, and what a handler has started."""
    note = place / "note"
    program = ORPHANING.format(task_type=task_type, note=str(note))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environ) as worker:
        try:
            wait_for(lambda: note.exists() and note.read_text(), START_SECONDS)
            child = int(note.read_text())
        finally:
            worker.kill()
    wait_for(lambda: not is_there(child), 5)


ORPHANING = """
import asyncio, daring, json
from crew import Crew, delivery
from taskqueue_core.settings import Settings
from taskqueue_core.worker.subprocesses import Children

async def main():
    crew = Crew(Settings(), daring)
    crew.executor.children = Children(Settings())
    body = json.dumps([{{"note": "{note}"}}]).encode()
    crew.executor.start(delivery("{task_type}", body=body, timeout_seconds=60))
    await asyncio.Event().wait()

asyncio.run(main())
"""


def wait_for(condition: Callable[[], object], within_seconds: float) -> None:
    """Return once a condition holds."""
    end = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def test_progress(crew: Crew) -> None:
    """A child's handler is heard during its own call only, and not too often."""
    said: list[tuple[str, str]] = []
    crew.executor.on_progress = lambda ctx, _, message: said.append((ctx.id[-1], message))
    assert (await outcome_of(crew, "gauge")).kind is COMPLETE
    assert (await outcome_of(crew, "gauge", 2, payload={"seconds": 0.3})).kind is COMPLETE
    assert (said[0], ("2", "late") in said) == (("1", "step 0"), True)
    assert ("1", "late") not in said
    assert len(said) < 100
