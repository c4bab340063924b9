"""Run handlers: on the event loop, in threads or in children, each until its deadline.

Every delivery ends in one outcome, handed to ``report``. A delivery stays in ``running`` (and so
keeps its lease) until the broker has answered that outcome.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from taskqueue_core.models import Delivery, Outcome, OutcomeKind
from taskqueue_core.plugin import Handler, NonRetryable, PluginHost, TaskCancelled, TaskContext
from taskqueue_core.plugin.context import request_cancel
from taskqueue_core.settings import Settings
from taskqueue_core.worker import outcomes
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.running import GRACE_SECONDS, UNREADABLE, Plans, Running, Timer
from taskqueue_core.worker.subprocesses import Children, call_apart


def _nobody(_: str) -> None:
    pass


class Executor:
    """The handlers at work in one worker process.

    With ``children``, handlers that ask for a process run there, and so does every task that has
    cost a worker its lease before, alone: it may take its process along. Without, all run here.
    ``on_stuck`` is told the id of a task whose handler is at work long after its deadline,
    ``on_progress`` what a handler says about its progress, from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        host: PluginHost,
        worker_id: str,
        measurements: Measurements,
        *,
        report: Callable[[Outcome], None],
        misrouted: Callable[[Delivery], None],
        rng: random.Random,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.running: dict[tuple[str, int], Running] = {}
        self.stuck = 0
        self.children: Children | None = None
        self.on_stuck: Callable[[str], None] = _nobody
        self.on_progress: Callable[[TaskContext, float, str], None] | None = None
        self._concurrency = settings.worker.concurrency
        self._result_limit = settings.worker.max_result_bytes
        self._host = host
        self._worker_id = worker_id
        self._measurements = measurements
        self._report = report
        self._misrouted = misrouted
        self._rng = rng
        self._grace_seconds = grace_seconds
        self._plans = Plans(settings)
        self._timer = Timer(self._sweep)
        self._threads: ThreadPoolExecutor | None = None
        self._stopped: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)
        self._hears_start = host.listens("taskqueue_task_starting")
        self._hears_finish = host.listens("taskqueue_task_finished")
        self._hears_failure = host.listens("taskqueue_task_failed")

    def start(self, delivery: Delivery) -> None:
        """Run a delivery in a task of its own."""
        handler = self._host.get(delivery.type)
        if handler is None:
            self._misrouted(delivery)
            return
        plan = self._plans.plan(delivery, handler)
        running = Running(delivery, handler, plan, self._grace_seconds, self.on_progress)
        if self.children and (delivery.lost_leases or handler.executor == "process"):
            running.is_apart = True
        self.running[delivery.digits, delivery.number] = running
        self._measurements.waited(
            delivery.priority, delivery.fetched_at_ms - delivery.enqueued_at_ms
        )
        running.task = asyncio.create_task(self._run(running))
        self._timer.ring_by(running.alarm)

    def settled(self, outcome: Outcome) -> None:
        """Forget a delivery whose outcome the broker has answered."""
        delivery = outcome.delivery
        self.running.pop((delivery.digits, delivery.number), None)

    def lost(self, delivery: Delivery) -> bool:
        """Stop a delivery that is somebody else's now, if it is still at work here.

        Its outcome will be refused anyway.
        """
        running = self.running.get((delivery.digits, delivery.number))
        if running is None or running.is_over or running.context.cancelled:
            return False
        self._stop(running, "the lease was lost")
        return True

    def release_all(self) -> int:
        """Give back every task that is still at work and stop its handler; the count."""
        released = 0
        for running in list(self.running.values()):
            if not running.is_over:
                released += 1
                self._finish(running, outcomes.release(running.delivery))
                self._stop(running, "the worker is stopping")
        return released

    async def stopped(self, within_seconds: float) -> int:
        """Wait for the handlers that were told to stop; how many have not done so in time.

        There is nothing left to do for the children then, so they end too.
        """
        still_running: set[asyncio.Task[None]] = set()
        if self._stopped:
            _, still_running = await asyncio.wait(self._stopped, timeout=within_seconds)
        if self.children:
            await self.children.close()
        return len(still_running)

    def active(self) -> int:
        """Return how many deliveries have no outcome yet."""
        return sum(not running.is_over for running in list(self.running.values()))

    def close(self) -> None:
        """Let go of the threads and the timer."""
        self._timer.stop()
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, running: Running) -> None:
        running.has_begun = True
        try:
            if self._hears_start:
                self._tell("taskqueue_task_starting", running)
            value = await self._call(running)
            duration_ms = running.elapsed_ms
            # Also from one that has swallowed its cancellation.
            running.context.raise_if_cancelled()
            if running.is_apart:
                outcome = outcomes.completed(running.delivery, value, duration_ms)
            else:
                outcome = outcomes.success(
                    running.delivery, value, duration_ms, limit=self._result_limit
                )
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its outcome)
            self._failed(running, error)
            return
        if self._hears_finish and not running.is_over:
            self._tell("taskqueue_task_finished", running, duration_seconds=duration_ms / 1000)
        self._finish(running, outcome)

    async def _call(self, running: Running) -> Any:
        handler, context = running.handler, running.context
        if running.payload is UNREADABLE:
            raise NonRetryable("the stored payload cannot be read")
        context.raise_if_cancelled()
        if running.is_apart:
            assert self.children is not None
            return await call_apart(running, self.children, self._timer)
        argument = handler.decode(running.payload)
        if handler.is_async:
            return await handler.function(context, argument)
        if self._threads is None:
            self._threads = self._new_threads()
        loop = asyncio.get_running_loop()
        value, error = await loop.run_in_executor(
            self._threads, _guarded, handler, context, argument
        )
        if error is not None:
            raise error
        return value

    def _failed(self, running: Running, error: BaseException) -> None:
        if running.is_over:
            return
        reason = running.context.cancel_reason
        if reason and isinstance(error, (asyncio.CancelledError, TaskCancelled)):
            error = outcomes.TimedOut(reason)
        if self._hears_failure:
            self._tell("taskqueue_task_failed", running, error=error)
        outcome = outcomes.failure(
            running.delivery,
            error,
            running.elapsed_ms,
            plan=running.plan,
            worker_id=self._worker_id,
            rng=self._rng,
            trace=running.trace,
        )
        self._log.debug("attempt failed", task_id=running.context.id, error=outcome.value.decode())
        self._finish(running, outcome)

    def _finish(self, running: Running, outcome: Outcome) -> None:
        if running.is_over:
            return
        running.is_over = True
        if outcome.kind is not OutcomeKind.RELEASE:
            is_completed = outcome.kind is OutcomeKind.COMPLETE
            self._measurements.ran(
                running.delivery.type, outcome.duration_ms, is_completed=is_completed
            )
        if outcomes.will_retry(outcome):
            self._measurements.will_retry(running.delivery.type, outcome.delay_ms)
        self._report(outcome)

    def _tell(self, hook: str, running: Running, **more: object) -> None:
        """Call a hook; not even a plugin that raises SystemExit may take the outcome along."""
        try:
            self._host.call(hook, ctx=running.context, **more)
        except BaseException as error:  # noqa: BLE001 (a plugin's boundary, logged)
            self._log.error("a plugin's hook broke off", hook=hook, exc_info=error)

    def _stop(self, running: Running, reason: str) -> None:
        request_cancel(running.context, reason)
        task = running.task
        if task is None or task.done():
            return
        if task not in self._stopped:
            self._stopped.add(task)
            task.add_done_callback(self._stopped.discard)
        # A task cancelled before its first step would never reach its own error handling.
        if running.is_cancellable and running.has_begun:
            task.cancel()

    def _sweep(self) -> None:
        """Act on what is past its deadline; set the timer for the next one."""
        now = time.monotonic()
        for running in list(self.running.values()):
            if not running.is_over and running.alarm <= now:
                self._expire(running)
        alarms = (running.alarm for running in self.running.values() if not running.is_over)
        self._timer.ring_by(min(alarms, default=math.inf))

    def _expire(self, running: Running) -> None:
        reason = f"timed out after {running.plan.timeout_seconds:g} s"
        is_first = running.alarm < running.given_up_at
        running.alarm = running.given_up_at
        if running.is_cancellable and is_first:
            self._stop(running, reason)
        elif running.is_cancellable:
            self._log.error("handler ignores its cancellation", task_id=running.context.id)
            self._failed(running, outcomes.TimedOut(f"{reason} and did not stop"))
            self._expect_end(running)
        else:
            # A thread cannot be stopped: it is asked to, and its slot gets a fresh one.
            self._stop(running, reason)
            self._log.warning("thread still at work after its timeout", task_id=running.context.id)
            self._failed(running, outcomes.TimedOut(reason))
            self._expect_end(running)
            old, self._threads = self._threads, self._new_threads()
            if old:
                old.shutdown(wait=False)

    def _expect_end(self, running: Running) -> None:
        """Count a handler that outstays its time; say so when it does that for too long."""

        def ended(_: asyncio.Task[None]) -> None:
            self.stuck -= 1

        def look(task: asyncio.Task[None]) -> None:
            if not task.done():
                self.on_stuck(running.context.id)

        assert running.task is not None
        self.stuck += 1
        running.task.add_done_callback(ended)
        grace = max(0.0, running.given_up_at - time.monotonic())
        asyncio.get_running_loop().call_later(grace, look, running.task)

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._concurrency, "taskqueue-handler")


def _guarded(
    handler: Handler, context: TaskContext, argument: Any
) -> tuple[Any, BaseException | None]:
    """Call a handler in a thread; a future cannot hold every exception, StopIteration for one."""
    try:
        return handler.function(context, argument), None
    except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
        return None, error
