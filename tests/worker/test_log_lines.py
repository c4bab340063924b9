"""Every line about a task says which one, which attempt and which worker, whoever writes it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from crew import Crew, delivery, eventually

from taskqueue_core.keys import id_from_hex
from taskqueue_core.logs import configure_logging
from taskqueue_core.plugin import TaskContext, handler, hookimpl
from taskqueue_core.settings import QueueSettings, Settings
from taskqueue_core.worker.subprocesses import Children

pytestmark = pytest.mark.anyio

SECRET = "payload-of-nobodys-business"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, _quiet: None, own_logging: None) -> io.StringIO:
    """Return what the process logs, at the level ``debug``."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("debug")
    return stream


@pytest.fixture
def settings() -> Settings:
    """Return settings with a timeout of 50 ms for all that says nothing else."""
    return Settings(queue=QueueSettings(default_timeout_seconds=0.05))


def lines(text: str, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def ids(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a line says of its task."""
    return tuple(line.get(name) for name in ("task_id", "task_type", "attempt", "worker_id"))


@handler("loop", timeout=5)
async def on_loop(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Log a line of its own, and one as a library would; end when the other one has, too."""
    ctx.log.warning("own line")
    logging.getLogger("some.library").warning("foreign line")
    await asyncio.sleep(0)


@handler("thread", timeout=5)
def in_thread(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Log a line of its own, and one as a library would."""
    ctx.log.warning("own line")
    logging.getLogger("some.library").warning("foreign line")


@handler("broken", timeout=5)
async def broken(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Fail."""
    raise LookupError("gone\n{}")


@handler("deaf")
def deaf(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Stay at work in a thread until it is let go."""
    release.wait(10)


@handler("stubborn")
async def stubborn(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Swallow every cancellation until it is let go."""
    while not release.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue


release = threading.Event()


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_lines_of_a_handler_name_its_attempt(
    settings: Settings, log: io.StringIO, kind: str
) -> None:
    """Its own lines do, and so do those of libraries, also of two that run at the same time."""
    crew = Crew(settings, on_loop, in_thread)
    body = json.dumps([{"secret": SECRET}]).encode()
    both = [delivery(kind, number, attempts=number, body=body) for number in (1, 2)]
    for one in both:
        crew.executor.start(one)
    await eventually(lambda: len(crew.outcomes) == 2, "both outcomes")
    crew.executor.close()
    expected = {(id_from_hex(one.digits), kind, one.attempts, "w1") for one in both}
    for event in ("own line", "foreign line"):
        written = lines(log.getvalue(), event)
        assert len(written) == 2
        assert {ids(line) for line in written} == expected
    assert SECRET not in log.getvalue()


class Rude:
    """A plugin that breaks off."""

    @hookimpl
    def taskqueue_task_failed(self, ctx: TaskContext, error: BaseException) -> None:
        """Do as no plugin should."""
        raise SystemExit


async def test_lines_about_a_failed_attempt_name_it(settings: Settings, log: io.StringIO) -> None:
    """The failure is one line at debug; a hook that fails says during which attempt."""
    crew = Crew(settings, broken, Rude())
    one = delivery("broken", attempts=3)
    await crew.outcome(one)
    for event in ("attempt failed", "a plugin's hook failed"):
        [line] = lines(log.getvalue(), event)
        assert ids(line) == (id_from_hex(one.digits), "broken", 3, "w1")
    [line] = lines(log.getvalue(), "attempt failed")
    assert line["error"] == "LookupError: gone\n{}"


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("deaf", "thread still at work after its timeout"),
        ("stubborn", "handler ignores its cancellation"),
    ],
)
async def test_lines_about_a_stuck_handler_name_its_attempt(
    settings: Settings, log: io.StringIO, kind: str, event: str
) -> None:
    """They are written by a timer, outside of any attempt."""
    release.clear()
    crew = Crew(settings, deaf, stubborn, grace_seconds=0.02)
    one = delivery(kind, attempts=2)
    try:
        await crew.outcome(one)
    finally:
        release.set()
        await crew.executor.stopped(5)
        crew.executor.close()
    [line] = lines(log.getvalue(), event)
    assert ids(line) == (id_from_hex(one.digits), kind, 2, "w1")


async def test_lines_from_a_child_process_name_the_attempt(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It knows the worker's id, and what to write on lines of libraries."""
    import daring

    info = tmp_path / "daring-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daring\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[taskqueue.plugins]\nmain = daring\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    crew = Crew(settings, daring)
    crew.executor.children = Children(settings)
    for number in (1, 2):
        await crew.outcome(delivery("log", number, attempts=number), within_seconds=20)
        crew.outcomes.clear()
    await crew.executor.stopped(5)
    crew.executor.close()
    text = capfd.readouterr().err
    for event in ("own line", "foreign line"):
        assert [ids(line) for line in lines(text, event)] == [
            (id_from_hex(f"{number:032x}"), "log", number, "w1") for number in (1, 2)
        ]
