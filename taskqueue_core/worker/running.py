"""One delivery at work: what it is made of, how long it may take, when its turn is over."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Final

from taskqueue_core.codec import decode_body
from taskqueue_core.keys import id_from_hex
from taskqueue_core.logs import subject
from taskqueue_core.models import Delivery, Outcome
from taskqueue_core.plugin import Handler, TaskContext
from taskqueue_core.plugin.context import describe, request_cancel, set_deadline
from taskqueue_core.retry import RetryPolicy
from taskqueue_core.settings import Settings
from taskqueue_core.worker.outcomes import Plan, TimedOut, error_type

if TYPE_CHECKING:  # it imports OpenTelemetry
    from taskqueue_core.spans import AttemptSpan

#: A handler that has not stopped so many seconds after its deadline is stuck: its slot is given
#: to others and its lease is no longer renewed.
GRACE_SECONDS: Final = 10.0

#: In place of a payload that is no JSON (any more).
UNREADABLE: Final = object()


class Running:
    """One delivery that this worker holds.

    ``alarm`` is when the executor must next look at it: first at its deadline, then at
    ``given_up_at``. ``is_unwanted`` once a client has asked for its end, ``is_late`` once whatever
    it returns comes too late, ``is_over`` once its outcome has been handed in. ``is_apart`` when it
    runs in a child process; ``trace`` is then the traceback of what was raised there. It has a
    ``span`` where tasks are traced.
    """

    __slots__ = (
        "alarm",
        "context",
        "delivery",
        "given_up_at",
        "handler",
        "has_begun",
        "is_apart",
        "is_late",
        "is_over",
        "is_unwanted",
        "payload",
        "plan",
        "span",
        "started",
        "task",
        "trace",
    )

    def __init__(
        self,
        delivery: Delivery,
        handler: Handler,
        plan: Plan,
        grace: float,
        worker_id: str = "",
        tell: Callable[[TaskContext, float, str], None] | None = None,
    ) -> None:
        started = time.monotonic()
        try:
            self.payload, metadata = decode_body(delivery.body)
        except ValueError:
            self.payload, metadata = UNREADABLE, {}
        self.delivery = delivery
        self.handler = handler
        self.plan = plan
        self.started = started
        self.alarm = started + plan.timeout_seconds
        self.given_up_at = self.alarm + grace
        self.context = TaskContext(
            id=id_from_hex(delivery.digits),
            type=delivery.type,
            queue=delivery.queue,
            priority=delivery.priority,
            attempt=max(1, delivery.attempts),
            max_retries=plan.max_retries,
            metadata=metadata,
            deadline=self.alarm,
            fence=str(delivery.number),
            worker_id=worker_id,
            _tell=tell,
        )
        self.task: asyncio.Task[None] | None = None
        self.trace: str | None = None
        self.span: AttemptSpan | None = None
        self.has_begun = False
        self.is_apart = False
        self.is_late = False
        self.is_over = False
        self.is_unwanted = False

    @property
    def is_cancellable(self) -> bool:
        """Tell whether to cancel its task is to end what its handler does, unless that is deaf."""
        return self.is_apart or self.handler.is_async

    @property
    def scope(self) -> Context | None:
        """Return the context that its task is to run in, ``None`` for any."""
        return None if self.span is None else self.span.scope

    def begin(self) -> None:
        """Note that its task is at work, which is the one that calls this."""
        self.has_begun = True
        subject.set(partial(describe, self.context))

    def close_span(self, outcome: Outcome, error: BaseException | None) -> None:
        """End its span, if it has one, with its outcome and what led to that."""
        if self.span is None:
            return
        name = "" if error is None else error_type(error)
        if self.is_unwanted and isinstance(error, TimedOut):
            name = "cancelled"
        self.span.end(outcome.kind.name.lower(), name)

    def interrupt(self, reason: str) -> asyncio.Task[None] | None:
        """Ask its handler to stop, also again; return the task that is to end, if there is one."""
        request_cancel(self.context, reason)
        if self.task is None or self.task.done():
            return None
        # A task cancelled before its first step would never reach its own error handling.
        if self.is_cancellable and self.has_begun:
            self.task.cancel()
        return self.task

    def wind(self, extra_seconds: float = 0.0) -> None:
        """Give it its full time from now on, and ``extra_seconds`` more."""
        grace = self.given_up_at - self.alarm
        self.alarm = time.monotonic() + self.plan.timeout_seconds + extra_seconds
        self.given_up_at = self.alarm + grace
        set_deadline(self.context, self.alarm)

    @property
    def elapsed_ms(self) -> int:
        """Return how long it has been at work."""
        return round((time.monotonic() - self.started) * 1000)

    @property
    def is_renewed(self) -> bool:
        """Tell whether the lease is to be kept: not for ever while a handler hangs."""
        return self.is_over or time.monotonic() < self.given_up_at


class Plans:
    """How the tasks of each handler are run: what a task leaves open, its handler says."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._defaults: dict[str, Plan] = {}

    def plan(self, delivery: Delivery, handler: Handler) -> Plan:
        """Return the plan of one delivery."""
        default = self._defaults.get(handler.task_type)
        if default is None:
            default = self._defaults[handler.task_type] = default_plan(handler, self._settings)
        timeout, retries = delivery.timeout_seconds, delivery.max_retries
        if timeout is None and retries is None:
            return default
        return Plan(
            default.timeout_seconds if timeout is None else timeout,
            default.max_retries if retries is None else retries,
            default.policy,
        )


def default_plan(handler: Handler, settings: Settings) -> Plan:
    """Return how tasks of a handler are run when they say nothing themselves."""
    queue = settings.queue
    policy = handler.retry or RetryPolicy(
        initial_seconds=queue.retry_initial_backoff_seconds,
        max_seconds=queue.retry_max_backoff_seconds,
        factor=queue.retry_backoff_factor,
        jitter=queue.retry_jitter_factor,
    )
    retries = queue.retry_max_attempts if policy.max_retries is None else policy.max_retries
    return Plan(handler.timeout_seconds or queue.default_timeout_seconds, retries, policy)


class Timer:
    """One timer for many deadlines: it calls ``ring`` at the earliest one it was told of.

    A timer object for each task would cost more than most tasks.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def ring_by(self, at: float) -> None:
        """Ring at ``at``, by ``time.monotonic``, or before."""
        if at >= self._at:
            return
        self.stop()
        self._at = at
        delay = max(0.0, at - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(delay, self._rang)

    def stop(self) -> None:
        """Do not ring."""
        self._at = math.inf
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _rang(self) -> None:
        self._at, self._handle = math.inf, None
        self._ring()
