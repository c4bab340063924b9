"""Handlers that do to their process what no worker should have to survive.

A plugin of its own, for child processes load plugins by their entry points.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from taskqueue_core.plugin import (
    DropTask,
    InvalidPayload,
    NonRetryable,
    RetryTask,
    TaskContext,
    handler,
)


def told(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Return what a handler can see, and where it runs."""
    return {
        "payload": payload,
        "metadata": dict(ctx.metadata),
        "task": [ctx.id, ctx.type, ctx.queue, ctx.priority, ctx.attempt, ctx.max_retries],
        "fence": ctx.fence,
        "left": ctx.remaining_seconds,
        "pid": os.getpid(),
    }


@handler("plain", executor="process", timeout=20)
def plain(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Answer, after what it prints."""
    print("said by a handler")
    return told(ctx, payload)


@handler("coroutine", executor="process", timeout=20)
async def coroutine(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Answer from an event loop."""
    await asyncio.sleep(0)
    return told(ctx, payload)


@handler("fragile", timeout=20)
async def fragile(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Run on the worker's loop, unless it has cost a worker its life before."""
    return told(ctx, payload)


@handler("segfault", executor="process", timeout=20)
def segfault(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Read what is not there."""
    ctypes.string_at(0)


@handler("leave", executor="process", timeout=20)
async def leave(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Take the process along without a word."""
    os._exit(7)


@handler("fork", executor="process", timeout=20)
def fork(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Die while a child of its own, in its group or not, holds on to all descriptors."""
    pid = os.fork()
    if pid == 0:
        if payload["escapes"]:
            os.setsid()
            Path(payload["note"]).write_text(str(os.getpid()))
        time.sleep(60)
        os._exit(0)
    if not payload["escapes"]:
        Path(payload["note"]).write_text(str(pid))
    while not Path(payload["note"]).exists():
        time.sleep(0.01)
    os._exit(8)


@handler("terminate", executor="process", timeout=20)
def terminate(ctx: TaskContext, payload: dict[str, Any]) -> int:
    """Fork, end that with a SIGTERM, and return how it ended."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@handler("spin", executor="process")
def spin(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Never end."""
    while True:
        pass


@handler("grip", executor="process")
def grip(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Hold the interpreter in C, so that no other thread of the process runs."""
    Path(payload["note"]).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(60)


@handler("start", executor="process")
def start(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Start a process, note its id, and wait for it."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(payload["note"]).write_text(str(process.pid))
    process.wait()


@handler("big", executor="process", timeout=20)
def big(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Return a text of a wanted length."""
    return "x" * payload["length"]


@handler("pile", executor="process", timeout=20)
def pile(ctx: TaskContext, payload: dict[str, Any]) -> int:
    """Use some memory; return the size of the process in pages."""
    assert len(b"x" * 2**20) == 2**20
    return int(Path("/proc/self/statm").read_text().split()[1])


@handler("gauge", executor="process", timeout=20)
def gauge(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Say how far it is, from a thread that outlives it too, far more often than is of use."""
    for number in range(1_001):
        ctx.progress(number / 1_000, f"step {number}")
    threading.Timer(0.1, ctx.progress, (0.0, "late")).start()
    time.sleep(payload.get("seconds", 0))


@handler("traced", executor="process", timeout=20)
async def traced(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, str]:
    """Return the span that it is in."""
    from opentelemetry import trace

    here = trace.get_current_span().get_span_context()
    return {"trace_id": f"{here.trace_id:032x}", "span_id": f"{here.span_id:016x}"}


@handler("log", executor="process", timeout=20)
async def log(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Log a line of its own, and one as a library would."""
    ctx.log.warning("own line")
    logging.getLogger("some.library").warning("foreign line")


class Unstorable:
    """No JSON form."""


@handler("strange", executor="process", timeout=20)
def strange(ctx: TaskContext, payload: dict[str, Any]) -> Any:
    """Return something that cannot be stored."""
    return {"object": Unstorable(), "nan": float("nan"), "none": None}[payload["what"]]


@handler("raise", executor="process", timeout=20)
async def raising(ctx: TaskContext, payload: dict[str, Any]) -> None:
    """Raise what the payload names."""
    crooked = RetryTask(1)
    crooked.delay = "soon"  # type: ignore[assignment]
    raise {
        "error": ValueError("bad"),
        "exit": SystemExit(3),
        "cancelled": asyncio.CancelledError(),
        "retry": RetryTask(delay=7, reason="busy"),
        "crooked": crooked,
        "drop": DropTask("withdrawn"),
        "never": NonRetryable("no account"),
        "invalid": InvalidPayload("$.a"),
    }[payload["what"]]
