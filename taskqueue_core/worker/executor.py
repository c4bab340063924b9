"""Run handlers: on the event loop or in threads, each until its deadline.

Every delivery ends in one outcome, handed to ``report``. A delivery stays in ``running`` (and so
keeps its lease) until the broker has answered that outcome. Deadlines share one timer: a timer
object for each task would cost more than most tasks.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import structlog

from taskqueue_core.codec import decode_body
from taskqueue_core.keys import id_from_hex
from taskqueue_core.models import Delivery, Outcome, OutcomeKind
from taskqueue_core.plugin import Handler, NonRetryable, PluginHost, TaskCancelled, TaskContext
from taskqueue_core.plugin.context import request_cancel
from taskqueue_core.retry import RetryPolicy
from taskqueue_core.settings import Settings
from taskqueue_core.worker import outcomes
from taskqueue_core.worker.measurements import Measurements

#: A handler that has not stopped so many seconds after its deadline is stuck: its slot is given
#: to others and its lease is no longer renewed.
GRACE_SECONDS: Final = 10.0


class Running:
    """One delivery that this worker holds."""

    __slots__ = (
        "alarm",
        "context",
        "delivery",
        "handler",
        "has_begun",
        "is_over",
        "payload",
        "plan",
        "started",
        "task",
    )

    def __init__(
        self, delivery: Delivery, handler: Handler, plan: outcomes.Plan, context: TaskContext
    ) -> None:
        self.delivery = delivery
        self.handler = handler
        self.plan = plan
        self.context = context
        self.started = context.deadline - plan.timeout_seconds
        self.alarm = context.deadline
        self.payload: Any = None
        self.task: asyncio.Task[None] | None = None
        self.has_begun = False
        self.is_over = False

    @property
    def is_renewed(self) -> bool:
        """Tell whether the lease is to be kept: not for ever while a handler hangs."""
        return self.is_over or time.monotonic() < self.context.deadline + GRACE_SECONDS


class Executor:
    """The handlers at work in one worker process."""

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
    ) -> None:
        self.running: dict[tuple[str, int], Running] = {}
        self.stuck = 0
        self._settings = settings
        self._host = host
        self._worker_id = worker_id
        self._measurements = measurements
        self._report = report
        self._misrouted = misrouted
        self._rng = rng
        self._plans: dict[str, outcomes.Plan] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = math.inf
        self._threads: ThreadPoolExecutor | None = None
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
        plan = self._plan(delivery, handler)
        try:
            payload, metadata = decode_body(delivery.body)
        except msgspec.MsgspecError:
            payload, metadata = _UNREADABLE, {}
        context = TaskContext(
            id=id_from_hex(delivery.digits),
            type=delivery.type,
            queue=delivery.queue,
            priority=delivery.priority,
            attempt=max(1, delivery.attempts),
            max_retries=plan.max_retries,
            metadata=metadata,
            deadline=time.monotonic() + plan.timeout_seconds,
            fence=str(delivery.number),
        )
        running = Running(delivery, handler, plan, context)
        running.payload = payload
        self.running[delivery.digits, delivery.number] = running
        self._measurements.waited(
            delivery.priority, delivery.fetched_at_ms - delivery.enqueued_at_ms
        )
        running.task = asyncio.create_task(self._run(running))
        if running.alarm < self._alarm:
            self._set_timer(running.alarm)

    def settled(self, outcome: Outcome) -> None:
        """Forget a delivery whose outcome the broker has answered."""
        delivery = outcome.delivery
        self.running.pop((delivery.digits, delivery.number), None)

    def lost(self, delivery: Delivery) -> None:
        """Stop a delivery that is somebody else's now; its outcome will be refused anyway."""
        running = self.running.get((delivery.digits, delivery.number))
        if running and not running.is_over:
            self._log.warning("lease lost, task stopped", task_id=running.context.id)
            self._stop(running, "the lease was lost")

    def release_all(self) -> int:
        """Give back every task that is still at work and stop its handler; the count."""
        released = 0
        for running in list(self.running.values()):
            if not running.is_over:
                released += 1
                self._finish(running, outcomes.release(running.delivery))
                self._stop(running, "the worker is stopping")
        return released

    def active(self) -> int:
        """Return how many deliveries have no outcome yet."""
        return sum(not running.is_over for running in list(self.running.values()))

    def close(self) -> None:
        """Let go of the threads and the timer."""
        if self._timer:
            self._timer.cancel()
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _plan(self, delivery: Delivery, handler: Handler) -> outcomes.Plan:
        default = self._plans.get(handler.task_type)
        if default is None:
            default = self._plans[handler.task_type] = default_plan(handler, self._settings)
        if delivery.timeout_seconds is None and delivery.max_retries is None:
            return default
        timeout, retries = delivery.timeout_seconds, delivery.max_retries
        return outcomes.Plan(
            default.timeout_seconds if timeout is None else timeout,
            default.max_retries if retries is None else retries,
            default.policy,
        )

    async def _run(self, running: Running) -> None:
        running.has_begun = True
        if self._hears_start:
            self._host.call("taskqueue_task_starting", ctx=running.context)
        try:
            value = await self._call(running)
            duration_ms = self._elapsed_ms(running)
            if running.context.cancel_reason:
                raise outcomes.TimedOut(running.context.cancel_reason)
            outcome = outcomes.success(
                running.delivery,
                value,
                duration_ms,
                limit=self._settings.worker.max_result_bytes,
            )
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises is its outcome)
            self._failed(running, error)
            return
        if self._hears_finish and not running.is_over:
            self._host.call(
                "taskqueue_task_finished",
                ctx=running.context,
                duration_seconds=duration_ms / 1000,
            )
        self._finish(running, outcome)

    async def _call(self, running: Running) -> Any:
        handler, context = running.handler, running.context
        if running.payload is _UNREADABLE:
            raise NonRetryable("the stored payload cannot be read")
        context.raise_if_cancelled()
        argument = handler.decode(running.payload)
        if handler.is_async:
            return await handler.function(context, argument)
        if self._threads is None:
            self._threads = self._new_threads()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, handler.function, context, argument)

    def _failed(self, running: Running, error: BaseException) -> None:
        if running.is_over:
            return
        if isinstance(error, (asyncio.CancelledError, TaskCancelled)) and (
            running.context.cancel_reason
        ):
            error = outcomes.TimedOut(running.context.cancel_reason)
        if self._hears_failure:
            self._host.call("taskqueue_task_failed", ctx=running.context, error=error)
        outcome = outcomes.failure(
            running.delivery,
            error,
            self._elapsed_ms(running),
            plan=running.plan,
            worker_id=self._worker_id,
            rng=self._rng,
        )
        self._log.debug("attempt failed", task_id=running.context.id, error=outcome.value.decode())
        self._finish(running, outcome)

    def _finish(self, running: Running, outcome: Outcome) -> None:
        if running.is_over:
            return
        running.is_over = True
        if outcome.kind is not OutcomeKind.RELEASE:
            self._measurements.ran(running.delivery.type, outcome.duration_ms)
        if outcome.kind is OutcomeKind.FAIL and not outcome.reason:
            self._measurements.will_retry(running.delivery.type, outcome.delay_ms)
        self._report(outcome)

    def _elapsed_ms(self, running: Running) -> int:
        return round((time.monotonic() - running.started) * 1000)

    def _stop(self, running: Running, reason: str) -> None:
        request_cancel(running.context, reason)
        # A task cancelled before its first step would never reach its own error handling.
        if running.handler.is_async and running.task and running.has_begun:
            running.task.cancel()

    def _set_timer(self, alarm: float) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._alarm = alarm
        if alarm < math.inf:
            delay = max(0.0, alarm - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        """Act on what is past its deadline; set the timer for the next one."""
        now = time.monotonic()
        for running in list(self.running.values()):
            if not running.is_over and running.alarm <= now:
                self._expire(running)
        alarms = (running.alarm for running in self.running.values() if not running.is_over)
        self._set_timer(min(alarms, default=math.inf))

    def _expire(self, running: Running) -> None:
        reason = f"timed out after {running.plan.timeout_seconds:g} s"
        is_first = running.alarm == running.context.deadline
        running.alarm = running.context.deadline + GRACE_SECONDS
        if not running.handler.is_async:
            # A thread cannot be stopped: it is asked to, and its slot gets a fresh one.
            self._stop(running, reason)
            self._failed(running, outcomes.TimedOut(reason))
            self._leave_thread(running)
        elif is_first:
            self._stop(running, reason)
        else:
            self.stuck += 1
            self._log.error("handler ignores its cancellation", task_id=running.context.id)
            self._failed(running, outcomes.TimedOut(f"{reason} and did not stop"))
            self._expect_end(running)

    def _leave_thread(self, running: Running) -> None:
        self.stuck += 1
        self._log.warning("thread still at work after its timeout", task_id=running.context.id)
        old, self._threads = self._threads, self._new_threads()
        if old:
            old.shutdown(wait=False)
        self._expect_end(running)

    def _expect_end(self, running: Running) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            self.stuck -= 1

        assert running.task is not None
        running.task.add_done_callback(ended)

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._settings.worker.concurrency, "taskqueue-handler")


_UNREADABLE: Final = object()


def default_plan(handler: Handler, settings: Settings) -> outcomes.Plan:
    """Return how tasks of a handler are run when they say nothing themselves."""
    queue = settings.queue
    policy = handler.retry or RetryPolicy(
        initial_seconds=queue.retry_initial_backoff_seconds,
        max_seconds=queue.retry_max_backoff_seconds,
        factor=queue.retry_backoff_factor,
        jitter=queue.retry_jitter_factor,
    )
    retries = queue.retry_max_attempts if policy.max_retries is None else policy.max_retries
    return outcomes.Plan(handler.timeout_seconds or queue.default_timeout_seconds, retries, policy)
