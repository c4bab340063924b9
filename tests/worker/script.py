"""A handler that does what its payload says, and settings for whole workers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from crew import ended, submit

from taskqueue_core.broker import Broker
from taskqueue_core.models import Task
from taskqueue_core.plugin import (
    DropTask,
    Handler,
    NonRetryable,
    RetryTask,
    TaskContext,
    handler,
)
from taskqueue_core.settings import QueueSettings, RedisSettings, Settings, WorkerSettings


def quick_settings(redis_url: str, namespace: str) -> Settings:
    """Return settings with a lease of 1.5 s and quick retries."""
    return Settings(
        redis=RedisSettings(url=redis_url),
        queue=QueueSettings(
            namespace=namespace,
            retry_initial_backoff_seconds=0.05,
            retry_jitter_factor=0,
        ),
        worker=WorkerSettings(
            concurrency=4,
            heartbeat_interval_seconds=0.3,
            lease_seconds=1.5,
            shutdown_timeout_seconds=5,
        ),
    )


def with_worker(settings: Settings, **changes: Any) -> Settings:
    """Return settings with some of the worker's changed."""
    worker = settings.worker.model_copy(update=changes)
    return settings.model_copy(update={"worker": worker})


class Script:
    """A handler that does what the payload says, and notes when it ran."""

    def __init__(self) -> None:
        self.contexts: list[TaskContext] = []
        self.started_at: list[float] = []
        self.go = asyncio.Event()

    @property
    def handler(self) -> Handler:
        """Return the handler of type ``script``."""

        @handler("script")
        async def script(ctx: TaskContext, payload: dict[str, Any]) -> Any:
            self.contexts.append(ctx)
            self.started_at.append(time.time())
            return await self._act(ctx, payload.get("do", ""))

        return script

    async def _act(self, ctx: TaskContext, action: str) -> Any:
        match action:
            case "fail":
                raise ValueError("broken")
            case "drop":
                raise DropTask("pointless")
            case "give up":
                raise NonRetryable("hopeless")
            case "retry" if ctx.attempt == 1:
                raise RetryTask(0.2, "not yet")
            case "wait":
                await self.go.wait()
        return ctx.attempt

    @property
    def ids(self) -> list[str]:
        """Return the ids of the tasks in the order in which they ran."""
        return [ctx.id for ctx in self.contexts]


async def run(broker: Broker, action: str = "", **more: Any) -> Task:
    """Submit a script and return it once it has ended."""
    task_id = await submit(broker, "script", payload={"do": action}, **more)
    return await ended(broker, task_id)
