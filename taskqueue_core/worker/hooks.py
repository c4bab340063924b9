"""What plugins hear of an attempt; asking which of them listen is left to the start."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from taskqueue_core.plugin import PluginHost
from taskqueue_core.plugin.context import describe
from taskqueue_core.worker.running import Running


class Hooks:
    """The hooks that are called for every attempt."""

    def __init__(self, host: PluginHost, log: FilteringBoundLogger) -> None:
        self.hear_start = host.listens("taskqueue_task_starting")
        self.hear_finish = host.listens("taskqueue_task_finished")
        self.hear_failure = host.listens("taskqueue_task_failed")
        self._host = host
        self._log = log

    def tell(self, hook: str, running: Running, **more: object) -> None:
        """Call a hook; not even a plugin that raises SystemExit may take the outcome along."""
        try:
            self._host.call(hook, ctx=running.context, **more)
        except BaseException as error:  # noqa: BLE001 (a plugin's boundary, logged)
            about = describe(running.context)
            self._log.error("a plugin's hook broke off", **about, hook=hook, exc_info=error)
