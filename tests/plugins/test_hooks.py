"""Hooks: every one reaches its listeners, and a listener that raises hurts nobody."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from taskqueue_core.plugin import PluginHost, TaskContext, hookimpl, hookspecs
from taskqueue_core.plugin.loading import HOOK_NAMES

Install = Callable[..., str]

CTX = TaskContext(id="1", type="email")
CALLS: dict[str, dict[str, Any]] = {
    "taskqueue_worker_started": {"worker_id": "w1"},
    "taskqueue_worker_stopped": {"worker_id": "w1"},
    "taskqueue_task_starting": {"ctx": CTX},
    "taskqueue_task_finished": {"ctx": CTX, "duration_seconds": 0.5},
    "taskqueue_task_failed": {"ctx": CTX, "error": ValueError("no")},
}


class Recorder:
    """Listens to every call of a running worker and keeps what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    @hookimpl
    def taskqueue_worker_started(self, worker_id: str) -> None:
        self.seen.append(("taskqueue_worker_started", worker_id))

    @hookimpl
    def taskqueue_worker_stopped(self, worker_id: str) -> None:
        self.seen.append(("taskqueue_worker_stopped", worker_id))

    @hookimpl
    def taskqueue_task_starting(self, ctx: TaskContext) -> None:
        self.seen.append(("taskqueue_task_starting", ctx))

    @hookimpl
    def taskqueue_task_finished(self, ctx: TaskContext, duration_seconds: float) -> None:
        self.seen.append(("taskqueue_task_finished", ctx, duration_seconds))

    @hookimpl
    def taskqueue_task_failed(self, ctx: TaskContext, error: BaseException) -> None:
        self.seen.append(("taskqueue_task_failed", ctx, error))


class Picky:
    """Listens to one hook and wants only one of its arguments."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    @hookimpl
    def taskqueue_task_finished(self, duration_seconds: float) -> None:
        self.seen.append(duration_seconds)


class Raising:
    """Fails whenever it is called."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl
    def taskqueue_task_finished(self) -> None:
        raise self.error


@pytest.mark.parametrize("name", CALLS)
def test_hook_reaches_its_listener(name: str) -> None:
    """A listener gets the arguments of the specification."""
    recorder = Recorder()
    PluginHost.of(recorder).call(name, **CALLS[name])
    assert recorder.seen == [(name, *CALLS[name].values())]


def test_every_hook_is_documented_and_tested() -> None:
    """A hook without a sentence about it, or without a test here, is not offered."""
    assert set(HOOK_NAMES) == set(CALLS) | {"taskqueue_register_handlers"}
    for name in HOOK_NAMES:
        assert inspect.getdoc(getattr(hookspecs, name))


def test_listener_may_leave_out_arguments() -> None:
    """Arguments a listener does not name are not passed: new ones can be added later."""
    picky = Picky()
    PluginHost.of(picky).call("taskqueue_task_finished", ctx=CTX, duration_seconds=0.5)
    assert picky.seen == [0.5]


def test_silent_hook_is_told_apart() -> None:
    """The worker can skip what nobody listens to; a hook that does not exist is a bug."""
    host = PluginHost.of(Picky())
    assert host.listens("taskqueue_task_finished")
    assert not host.listens("taskqueue_task_starting")
    with pytest.raises(KeyError):
        host.listens("taskqueue_task_strating")


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1)])
def test_raising_listener_does_not_stop_the_others(error: BaseException) -> None:
    """What one listener raises is logged with its hook; the next one is called all the same."""
    picky = Picky()
    host = PluginHost.of(Raising(error), picky)
    with structlog.testing.capture_logs() as lines:
        host.call("taskqueue_task_finished", ctx=CTX, duration_seconds=0.5)
    assert picky.seen == [0.5]
    assert [(line["hook"], line["plugin"]) for line in lines] == [
        ("taskqueue_task_finished", "plugin-1")
    ]


def test_listener_that_always_raises_does_not_flood_the_log() -> None:
    """A hook may run for every task: its failures make a few lines a minute."""
    host = PluginHost.of(Raising(ValueError("boom")))
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            host.call("taskqueue_task_finished", ctx=CTX, duration_seconds=0.5)
    assert 1 <= len(lines) < 10


def test_hooks_of_a_module_are_called_in_order_of_distributions(install: Install) -> None:
    """Module functions are listeners too, in the order of the distributions' names."""
    source = """
    @hookimpl
    def taskqueue_task_failed(error): error.args += (__name__,)
    """
    install("zeta", source)
    install("alpha", source)
    error = ValueError()
    PluginHost.load().call("taskqueue_task_failed", ctx=CTX, error=error)
    assert error.args == ("fake_alpha", "fake_zeta")
