"""For the tests of plugins: run a handler as a worker would, without a broker.

The worker's own executor runs it: the payload goes through JSON and the handler's annotation,
coroutines run on the loop and plain functions in a thread, the deadline holds, and the result
must have a JSON form. Importing this module needs pytest.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest

from taskqueue_core.codec import encode_body
from taskqueue_core.errors import PluginError
from taskqueue_core.keys import id_to_hex, new_task_id
from taskqueue_core.models import Delivery, Outcome, OutcomeKind, Priority
from taskqueue_core.plugin import Handler, PluginHost, TaskContext, hookimpl
from taskqueue_core.settings import QueueSettings, Settings
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.outcomes import TimedOut

__all__ = ["TimedOut", "run_task", "task_runner"]

_WORKER_ID: Final = "testing"


class _Witness:
    """A plugin that remembers the error of the attempt."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    @hookimpl
    def taskqueue_task_failed(self, ctx: TaskContext, error: BaseException) -> None:
        """Keep the error."""
        self.error = error


async def run_task(
    handler: Handler | PluginHost,
    payload: Mapping[str, Any],
    *,
    task_type: str = "",
    attempt: int = 1,
    metadata: Mapping[str, str] | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 -- the attempt's, which the executor enforces
) -> Any:
    """Run one attempt and return its result as a client would read it from JSON.

    Nothing is retried and no hooks of plugins are called.

    Args:
        handler: what ``@handler`` made, or a host with several of them.
        payload: the task's payload, sent through JSON first.
        task_type: which handler of a host; may be left out when it has one.
        attempt: the number the handler finds in ``ctx.attempt``.
        metadata: what the handler finds in ``ctx.metadata``.
        timeout: seconds until the attempt is stopped; else the handler's own, else the
            service's default of five minutes.

    Raises:
        TimedOut: the deadline passed. A thread handler that does not look at ``ctx.cancelled``
            goes on in its thread, as it would in a worker.
        InvalidPayload: the payload does not fit the handler's annotation.
        NonRetryable: the result has no JSON form or is too large, or the handler raised it.
        PluginError: the host has no such handler, or several and ``task_type`` is not given.
        Exception: whatever else the handler raises, ``RetryTask`` and ``DropTask`` among it.
    """
    chosen = _choose(handler, task_type)
    witness = _Witness()
    reported: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    executor = Executor(
        _settings(timeout),
        PluginHost.of(_with_timeout(chosen, timeout), witness),
        _WORKER_ID,
        Measurements(),
        report=reported.set_result,
        misrouted=lambda _: None,
        rng=random.Random(attempt),  # noqa: S311 -- spreads retries, of which there are none
    )
    executor.start(_delivery(chosen, payload, attempt=attempt, metadata=metadata or {}))
    try:
        # Shielded: when the test itself is cancelled, giving the task back is reported too.
        outcome = await asyncio.shield(reported)
    finally:
        executor.release_all()
        executor.close()
    if outcome.kind is OutcomeKind.COMPLETE:
        return msgspec.json.decode(outcome.value)
    assert witness.error is not None
    raise witness.error


@pytest.fixture
def task_runner() -> Callable[..., Any]:
    """Return ``run_task`` for tests that are not async: each attempt has a loop of its own.

    A ``conftest.py`` imports it: ``from taskqueue_core.testing import task_runner``.
    """

    def run(handler: Handler | PluginHost, payload: Mapping[str, Any], **options: Any) -> Any:
        return asyncio.run(run_task(handler, payload, **options))

    return run


def _choose(handler: Handler | PluginHost, task_type: str) -> Handler:
    if isinstance(handler, Handler):
        return handler
    known = handler.handlers
    if not task_type and len(known) == 1:
        return next(iter(known.values()))
    if task_type not in known:
        wanted = f'has no handler "{task_type}"' if task_type else "needs a task_type"
        raise PluginError(f"the host {wanted}: it has {', '.join(sorted(known)) or 'none'}")
    return known[task_type]


def _with_timeout(handler: Handler, timeout: float | None) -> Handler:
    """Return the handler so that the timeout of ``_settings`` is the one that counts."""
    return handler if timeout is None else replace(handler, timeout_seconds=None)


def _settings(timeout: float | None) -> Settings:
    if timeout is None:
        return Settings()
    return Settings(queue=QueueSettings(default_timeout_seconds=timeout))


def _delivery(
    handler: Handler, payload: Mapping[str, Any], *, attempt: int, metadata: Mapping[str, str]
) -> Delivery:
    now_ms = time.time_ns() // 1_000_000
    return Delivery(
        digits=id_to_hex(new_task_id()),
        entry_id=f"{now_ms}-0",
        queue=handler.queue,
        priority=Priority.NORMAL,
        type=handler.task_type,
        number=attempt,
        attempts=attempt,
        lost_leases=0,
        timeout_seconds=None,
        max_retries=None,
        body=encode_body(
            msgspec.json.encode(payload), msgspec.json.encode(metadata) if metadata else b""
        ),
        fetched_at_ms=now_ms,
        enqueued_at_ms=now_ms,
    )
