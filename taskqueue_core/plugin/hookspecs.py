"""The hooks a plugin may implement, one function each.

A plugin marks its functions with ``hookimpl`` and may leave out arguments it does not need.
Listeners run one by one on the worker's event loop, so they are plain functions that do not
block, in the order of their distributions' names. An exception in one is logged and stops
neither the others nor the worker. New arguments may be added to a hook, none is ever removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pluggy

from taskqueue_core.plugin.context import TaskContext
from taskqueue_core.plugin.handler import Handler

PROJECT: Final = "taskqueue"

#: The version of this interface: a plugin may name the one it was written for in its module, as
#: ``TASKQUEUE_API = (major, minor)``.
API_VERSION: Final = (1, 0)

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def taskqueue_register_handlers(register: Callable[[Handler], None]) -> None:
    """Offer handlers that are computed, by calling ``register`` with each of them.

    Called once, while the plugin is loaded. Handlers at module level need no hook. An exception
    fails the plugin, with all its handlers.
    """


@hookspec
def taskqueue_worker_started(worker_id: str) -> None:
    """Called once when the worker is registered, before it takes its first task."""


@hookspec
def taskqueue_worker_stopped(worker_id: str) -> None:
    """Called once when the worker has finished or released its last task."""


@hookspec
def taskqueue_task_starting(ctx: TaskContext) -> None:
    """Called before every attempt; an exception here does not keep the task from running."""


@hookspec
def taskqueue_task_finished(ctx: TaskContext, duration_seconds: float) -> None:
    """Called after every attempt that succeeded, before the result is stored."""


@hookspec
def taskqueue_task_failed(ctx: TaskContext, error: BaseException) -> None:
    """Called after every attempt that did not succeed, whether or not it will be retried.

    ``error`` is what the handler raised, or the timeout or cancellation that stopped it.
    """
