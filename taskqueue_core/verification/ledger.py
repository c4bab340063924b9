"""The handlers of the fault run, and the ledger in which they note what they do.

Workers load this module as a plugin, see ``install``. Every start and every end of a handler is one
line, appended by one write, so that it is there even when the next instruction is the last one.
Times are ``time.monotonic``, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final, Literal

import msgspec

from taskqueue_core.plugin import TaskContext, handler
from taskqueue_core.retry import RetryPolicy

#: Where the ledger is, and who writes; not settings, hence not ``TASKQUEUE_...``.
LEDGER_VARIABLE: Final = "_TASKQUEUE_LEDGER"
MEMBER_VARIABLE: Final = "_TASKQUEUE_MEMBER"
#: Name of the distribution that workers find the handlers in.
DISTRIBUTION: Final = "taskqueue-verification"

_RETRY: Final = RetryPolicy(initial_seconds=0.2, max_seconds=1.0)


class Work(msgspec.Struct, frozen=True):
    """What a task is to do: take some time, and fail so many times before it succeeds."""

    milliseconds: int
    failures: int = 0
    padding: str = ""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A line of the ledger. ``member`` is the process of the fleet, such as ``worker-2.7``."""

    what: Literal["start", "end"]
    task_id: str
    fence: int
    member: str
    at: float


class PlannedError(Exception):
    """Raised by a task that was submitted to fail."""


def note(what: Literal["start", "end"], ctx: TaskContext) -> None:
    """Append a line to the ledger."""
    member = os.environ[MEMBER_VARIABLE]
    entry = Entry(what, ctx.id, int(ctx.fence), member, time.monotonic())
    ledger = os.open(os.environ[LEDGER_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, msgspec.json.encode(entry) + b"\n")
    finally:
        os.close(ledger)


def read(path: Path) -> list[Entry]:
    """Return the lines of the ledger so far, in the order they were written."""
    text = path.read_bytes() if path.exists() else b""
    whole, _, _ = text.rpartition(b"\n")
    return [msgspec.json.decode(line, type=Entry) for line in whole.splitlines()]


def _conclude(ctx: TaskContext, payload: Work) -> str:
    note("end", ctx)
    if ctx.attempt <= payload.failures:
        raise PlannedError(f"attempt {ctx.attempt} of {payload.failures} that fail")
    return ctx.fence


@handler("verify.async", timeout=60, retry=_RETRY)
async def wait(ctx: TaskContext, payload: Work) -> str:
    """Wait on the event loop."""
    note("start", ctx)
    await asyncio.sleep(payload.milliseconds / 1000)
    return _conclude(ctx, payload)


@handler("verify.thread", timeout=60, retry=_RETRY)
def wait_in_thread(ctx: TaskContext, payload: Work) -> str:
    """Wait in a thread, deaf to cancellation: what runs too long must be refused."""
    note("start", ctx)
    time.sleep(payload.milliseconds / 1000)
    return _conclude(ctx, payload)


@handler("verify.block", timeout=60, retry=_RETRY)
async def block(ctx: TaskContext, payload: Work) -> str:
    """Stop the worker's event loop for a while, as handlers should not but do."""
    note("start", ctx)
    time.sleep(payload.milliseconds / 1000)  # noqa: ASYNC251 (the mistake is the point)
    return _conclude(ctx, payload)


def install(folder: Path) -> None:
    """Make this module a plugin for processes that have ``folder`` on their path."""
    info = folder / "taskqueue_verification-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[taskqueue.plugins]\nledger = {__name__}\n")
