"""Everything a plugin author imports, and the host that loads plugins.

A plugin is a distribution with an entry point in the group ``taskqueue.plugins``; a handler is a
function in it, decorated with ``handler``.
"""

from __future__ import annotations

from taskqueue_core.plugin.context import TaskContext
from taskqueue_core.plugin.control import (
    DropTask,
    InvalidPayload,
    NonRetryable,
    RetryTask,
    TaskCancelled,
    TaskControl,
)
from taskqueue_core.plugin.discovery import ENTRY_POINT_GROUP
from taskqueue_core.plugin.handler import Executor, Handler, handler
from taskqueue_core.plugin.hookspecs import API_VERSION, hookimpl
from taskqueue_core.plugin.manager import PluginHost, PluginRecord, PluginState

__all__ = [
    "handler",
    "Handler",
    "Executor",
    "TaskContext",
    "TaskControl",
    "RetryTask",
    "DropTask",
    "NonRetryable",
    "InvalidPayload",
    "TaskCancelled",
    "hookimpl",
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "PluginHost",
    "PluginRecord",
    "PluginState",
]
