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
from typing import Any

import structlog

from taskqueue_core.models import Delivery, Outcome, OutcomeKind
from taskqueue_core.plugin import NonRetryable, PluginHost, TaskCancelled, TaskContext
from taskqueue_core.plugin.context import describe
from taskqueue_core.settings import Settings
from taskqueue_core.tracing import find_spans
from taskqueue_core.worker import outcomes
from taskqueue_core.worker.hooks import Hooks
from taskqueue_core.worker.measurements import Measurements
from taskqueue_core.worker.running import GRACE_SECONDS, UNREADABLE, Plans, Running, Timer
from taskqueue_core.worker.subprocesses import Children, call_apart
from taskqueue_core.worker.threads import Threads


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
        self._threads = Threads(settings.worker.concurrency)
        self._stopped: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)
        self._spans = find_spans(enabled=settings.tracing.enabled)
        self._hooks = Hooks(host, self._log)

    def start(self, delivery: Delivery) -> None:
        """Run a delivery in a task of its own."""
        handler = self._host.get(delivery.type)
        if handler is None:
            self._misrouted(delivery)
            return
        plan = self._plans.plan(delivery, handler)
        grace, tell = self._grace_seconds, self.on_progress
        running = Running(delivery, handler, plan, grace, self._worker_id, tell)
        if self.children and (delivery.lost_leases or handler.executor == "process"):
            running.is_apart = True
        self.running[delivery.digits, delivery.number] = running
        self._measurements.began()
        if not delivery.is_recovered:
            wait_ms = delivery.fetched_at_ms - delivery.enqueued_at_ms
            self._measurements.waited(delivery.priority, wait_ms)
        if self._spans is not None:
            running.span = self._spans.attempt(delivery, self._worker_id)
        running.task = asyncio.create_task(self._run(running), context=running.scope)
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
        if running is None or running.is_over or running.is_late:
            return False
        self._stop(running, "the lease was lost")
        return True

    def cancel(self, digits: str, number: int) -> bool:
        """Ask a delivery to stop because a client wants that, if it is at work here unasked.

        What it returns all the same is its result, for then its work is done.
        """
        running = self.running.get((digits, number))
        if running is None or running.is_over or running.context.cancelled:
            return False
        running.is_unwanted = True
        self._interrupt(running, "cancelled on request")
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
        self._threads.close()

    async def _run(self, running: Running) -> None:
        running.begin()
        try:
            if self._hooks.hear_start:
                self._hooks.tell("taskqueue_task_starting", running)
            value = await self._call(running)
            duration_ms = running.elapsed_ms
            # Also from one that has swallowed its cancellation.
            if running.is_late:
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
        if self._hooks.hear_finish and not running.is_over:
            self._hooks.tell(
                "taskqueue_task_finished", running, duration_seconds=duration_ms / 1000
            )
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
        return await self._threads.call(handler, context, argument)

    def _failed(self, running: Running, error: BaseException) -> None:
        if running.is_over:
            return
        reason = running.context.cancel_reason
        if reason and isinstance(error, (asyncio.CancelledError, TaskCancelled)):
            error = outcomes.TimedOut(reason)
        if self._hooks.hear_failure:
            self._hooks.tell("taskqueue_task_failed", running, error=error)
        outcome = outcomes.failure(
            running.delivery,
            error,
            running.elapsed_ms,
            plan=running.plan,
            worker_id=self._worker_id,
            rng=self._rng,
            trace=running.trace,
        )
        self._log.debug("attempt failed", **describe(running.context), error=outcome.value.decode())
        self._finish(running, outcome, error)

    def _finish(
        self, running: Running, outcome: Outcome, error: BaseException | None = None
    ) -> None:
        if running.is_over:
            return
        running.is_over = True
        self._measurements.ended()
        if outcome.kind is not OutcomeKind.RELEASE:
            is_completed = outcome.kind is OutcomeKind.COMPLETE
            self._measurements.ran(
                running.delivery.type, outcome.duration_ms, is_completed=is_completed
            )
        if outcomes.will_retry(outcome) and not running.is_unwanted:
            self._measurements.will_retry(running.delivery.type, outcome.delay_ms)
        running.close_span(outcome, error)
        self._report(outcome)

    def _stop(self, running: Running, reason: str) -> None:
        running.is_late = True
        self._interrupt(running, reason)

    def _interrupt(self, running: Running, reason: str) -> None:
        task = running.interrupt(reason)
        if task and task not in self._stopped:
            self._stopped.add(task)
            task.add_done_callback(self._stopped.discard)

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
            self._log.error("handler ignores its cancellation", **describe(running.context))
            self._failed(running, outcomes.TimedOut(f"{reason} and did not stop"))
            self._expect_end(running)
        else:
            # A thread cannot be stopped: it is asked to, and its slot gets a fresh one.
            self._stop(running, reason)
            about = describe(running.context)
            self._log.warning("thread still at work after its timeout", **about)
            self._failed(running, outcomes.TimedOut(reason))
            self._expect_end(running)
            self._threads.renew()

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
