"""Misrouted tasks: put aside, never tossed back, and never kept."""

from __future__ import annotations

import time

import pytest
from crew import delivery, eventually
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker, Inspection
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.logs import Throttle
from taskqueue_core.models import HandlerInfo, Outcome, OutcomeKind, WorkerState
from taskqueue_core.worker.outcomes import HOLD_CAP_MS, UNHANDLED_CAP_MS
from taskqueue_core.worker.routing import Misrouted

pytestmark = pytest.mark.anyio


class Counting(Inspection):
    """A read side that counts how often it is asked, and may be away."""

    def __init__(self, like: Inspection, *, is_away: bool = False) -> None:
        super().__init__(like._redis, like._scripts, like._partitions)
        self.asked = 0
        self.is_away = is_away

    async def workers(self) -> list[WorkerState]:
        """Count, then answer."""
        self.asked += 1
        if self.is_away:
            raise BrokerUnavailableError("away")
        return await super().workers()


def misrouted_of(inspection: Inspection) -> tuple[Misrouted, list[Outcome]]:
    reported: list[Outcome] = []
    misrouted = Misrouted(
        inspection,
        "w1",
        give_up_seconds=60,
        report=reported.append,
        throttle=Throttle(1, time.monotonic),
    )
    return misrouted, reported


async def join(broker: Broker, worker_id: str, *types: str) -> None:
    session = broker.session(worker_id, "i")
    handlers = {name: HandlerInfo() for name in types}
    await session.register(concurrency=1, version="1", handlers=handlers)


@pytest.mark.parametrize(
    ("task_type", "cap_ms"), [("mail", HOLD_CAP_MS), ("unknown", UNHANDLED_CAP_MS)]
)
async def test_a_misrouted_task_is_held(broker: Broker, task_type: str, cap_ms: int) -> None:
    """Less long when another worker handles its type."""
    await join(broker, "w2", "mail")
    misrouted, reported = misrouted_of(broker.inspection)
    one = delivery(task_type)
    with capture_logs() as lines:
        misrouted.take(one)
        await misrouted.reported()
    [outcome] = reported
    assert (outcome.kind, outcome.delivery, outcome.delay_ms) == (OutcomeKind.HOLD, one, cap_ms)
    expected = ["w2"] if task_type == "mail" else "no live worker"
    assert [(line["task_type"], line["handled_by"]) for line in lines] == [(task_type, expected)]


async def test_many_ask_once_and_log_once(broker: Broker) -> None:
    """A hundred at the same moment share one answer and one line."""
    inspection = Counting(broker.inspection)
    misrouted, reported = misrouted_of(inspection)
    with capture_logs() as lines:
        for number in range(100):
            misrouted.take(delivery("other", number))
        await misrouted.reported()
    assert (len(reported), inspection.asked, len(lines)) == (100, 1, 1)


async def test_it_is_held_without_an_answer_too(broker: Broker) -> None:
    """An outage, or a worker whose handlers cannot be read, keeps no slot."""
    misrouted, reported = misrouted_of(Counting(broker.inspection, is_away=True))
    misrouted.take(delivery("other"))
    await eventually(lambda: reported, "a held task")
    await join(broker, "w2", "other")
    await broker.redis.hset(broker.partitions[0].worker("w2"), "handlers", b"\xff{")
    misrouted, reported = misrouted_of(broker.inspection)
    misrouted.take(delivery("other"))
    await eventually(lambda: reported, "a held task")
    assert reported[0].delay_ms == UNHANDLED_CAP_MS
