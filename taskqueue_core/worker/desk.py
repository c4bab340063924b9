"""Pass on what the broker says to the parts of a worker that it concerns.

The parts report to the desk and are reached through it, so it comes first and learns of them as
they are made.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from taskqueue_core.errors import BrokerFullError, BrokerUnavailableError
from taskqueue_core.keys import id_from_hex
from taskqueue_core.logs import Throttle
from taskqueue_core.models import Delivery, Fetched, Outcome, OutcomeStatus
from taskqueue_core.worker import outcomes
from taskqueue_core.worker.executor import Executor
from taskqueue_core.worker.fetcher import Fetcher
from taskqueue_core.worker.heartbeat import Answer
from taskqueue_core.worker.pause import Pause
from taskqueue_core.worker.recovery import Recovery
from taskqueue_core.worker.registration import Registration
from taskqueue_core.worker.routing import Misrouted
from taskqueue_core.worker.scheduler import Scheduler

#: So many requests to stop are remembered, in case their deliveries are still under way.
EARLY_REQUESTS: Final = 100


class Desk:
    """Where deliveries, outcomes and news of one partition change hands."""

    fetcher: Fetcher
    recovery: Recovery
    registration: Registration
    scheduler: Scheduler

    def __init__(
        self, worker_id: str, throttle: Throttle, executor: Executor, misrouted: Misrouted
    ) -> None:
        self.executor = executor
        self.misrouted = misrouted
        self.pause = Pause(self._pause_changed, time.monotonic)
        self.has_beat = asyncio.Event()
        #: Requests to stop a delivery that is not at work here: not any more, or not yet.
        self._early: dict[tuple[str, int], None] = {}
        self._throttle = throttle
        self._log = structlog.get_logger("taskqueue.worker").bind(worker_id=worker_id)

    def start(self, delivery: Delivery) -> None:
        """Run a delivery; one that comes after the worker was told to stop goes straight back."""
        if self.fetcher.is_open:
            self.executor.start(delivery)
            if (delivery.digits, delivery.number) in self._early:
                self._cancel(delivery.digits, delivery.number)
        else:
            self.report(outcomes.release(delivery))

    def report(self, outcome: Outcome) -> None:
        """Take an outcome to the broker."""
        self.fetcher.report(outcome)

    def settled(self, outcome: Outcome, status: OutcomeStatus) -> None:
        """Forget a delivery whose outcome the broker has answered."""
        self.executor.settled(outcome)
        if status is OutcomeStatus.STALE and self._throttle.allow("stale"):
            self._log.warning(
                "outcome refused: the task was given to another worker",
                task_id=id_from_hex(outcome.delivery.digits),
                attempt=outcome.delivery.attempts,
            )

    def refused(self, outcome: Outcome, error: Exception) -> None:
        """Give up an outcome that the broker cannot take; the task's lease runs out."""
        self.executor.settled(outcome)
        if self._throttle.allow("refused"):
            self._log.error(
                "outcome given up: the broker cannot take it",
                task_id=id_from_hex(outcome.delivery.digits),
                attempt=outcome.delivery.attempts,
                error=str(error),
            )

    def answered(self, fetched: Fetched, asked_at: float) -> None:
        """Hear what the answer to a fetch says beside the deliveries."""
        self.scheduler.next_due(fetched.next_due_ms)
        if fetched.is_known:
            self.pause.saw(is_on=fetched.is_paused, asked_at=asked_at)
        else:
            self.registration.lost()
        self.registration.saw_version(fetched.queues_version)

    def beat(self, answer: Answer) -> None:
        """Hear the answer to a heartbeat."""
        beat = answer.beat
        if not beat.is_known:
            self.registration.lost()
            return
        self.has_beat.set()
        self.recovery.beat_answered()
        self.pause.saw(is_on=beat.is_paused, asked_at=answer.asked_at)
        self.registration.saw_version(beat.queues_version)

    def beat_failed(self, error: Exception) -> None:
        """Hear that a heartbeat was not answered, or with an error."""
        if isinstance(error, (BrokerUnavailableError, BrokerFullError)):
            self.recovery.broker_lost()
        elif self._throttle.allow("heartbeat"):
            self._log.error("the broker cannot look for forgotten tasks", error=str(error))

    def lost(self, deliveries: list[Delivery]) -> None:
        """Hear which deliveries are somebody else's now."""
        stopped = [one for one in deliveries if self.executor.lost(one)]
        if stopped and self._throttle.allow("lost"):
            self._log.warning(
                "leases lost, tasks stopped",
                task_ids=[id_from_hex(one.digits) for one in stopped],
                attempts=[one.attempts for one in stopped],
            )

    def cancelled(self, deliveries: list[Delivery]) -> None:
        """Hear for which deliveries a client has asked to be stopped, again with every beat."""
        for one in deliveries:
            self._cancel(one.digits, one.number)

    def heard(self, message: str) -> None:
        """Hear a control message."""
        match message.split():
            case ["pause" | "resume" as word]:
                self.pause.heard(is_on=word == "pause")
            case ["cancel", digits, number] if number.isdecimal():
                self._cancel(digits, int(number))
                # It came over another connection, so it may be here before its delivery.
                self._early[digits, int(number)] = None
                if len(self._early) > EARLY_REQUESTS:
                    del self._early[next(iter(self._early))]

    def _cancel(self, digits: str, number: int) -> None:
        if self.executor.cancel(digits, number) and self._throttle.allow("cancelled"):
            attempt = self.executor.running[digits, number].context.attempt
            self._log.info("task asked to stop", task_id=id_from_hex(digits), attempt=attempt)

    def _pause_changed(self, is_paused: bool) -> None:  # noqa: FBT001 (a callback with one fact)
        if self.registration.partition == 0:
            self._log.info("worker paused" if is_paused else "worker resumed")
        self.fetcher.is_paused = is_paused
        if not is_paused:
            self.fetcher.wake()
