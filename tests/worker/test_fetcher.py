"""The fetcher: slots are counted, calls are repeated until answered, nothing is overheard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from crew import Notes, all_streams, backoff, completed, eventually, fields, joined, submit

from taskqueue_core.broker import Broker, WorkerSession
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.keys import id_from_hex, id_to_hex
from taskqueue_core.models import Fetched, Outcome, OutcomeKind, OutcomeStatus
from taskqueue_core.states import TaskState
from taskqueue_core.worker import fetcher as module
from taskqueue_core.worker.fetcher import Fetcher
from taskqueue_core.worker.slots import Slots

pytestmark = pytest.mark.anyio

ACCEPTED, ALREADY = OutcomeStatus.ACCEPTED, OutcomeStatus.ALREADY


class Line(WorkerSession):
    """A session whose answers pass ``after`` on their way back; it notes what was asked."""

    def __init__(self, like: WorkerSession) -> None:
        super().__init__(like._scripts, like.keys, like.worker_id, like.instance)
        self.asked: list[tuple[int, int, int]] = []
        self.reported: list[int] = []
        self.after: Callable[[Fetched], Any] | None = None

    async def fetch(self, wanted: int, **rest: Any) -> Fetched:
        """Fetch, note, and let the answer through or not."""
        self.asked.append((rest["lane"], rest["request"], wanted))
        self.reported.append(len(rest["outcomes"]))
        fetched = await super().fetch(wanted, **rest)
        if self.after:
            await self.after(fetched)
        return fetched

    def lose(self, answers: int, error: Exception) -> None:
        """Lose so many answers: the call went through, its caller sees an error."""
        left = [error] * answers

        async def after(_: Fetched) -> None:
            if left:
                raise left.pop()

        self.after = after


@pytest.fixture
def notes() -> Notes:
    return Notes()


async def fetcher_of(
    broker: Broker, session: WorkerSession, notes: Notes, *, slots: int = 4, **options: Any
) -> Fetcher:
    fetcher = Fetcher(
        session,
        notes,
        slots=Slots(slots),
        backoffs=[backoff(f"lane {lane}") for lane in range(2)],
        **{"trust_seconds": 60.0} | options,
    )
    fetcher.streams = await all_streams(broker)
    return fetcher


async def test_slots_are_filled_and_given_back(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """No more tasks than slots; an outcome brings the next task; in the end all slots are free."""
    ids = [await submit(broker) for _ in range(7)]
    fetcher = await fetcher_of(broker, session, notes, slots=3)
    fetcher.open()
    await fetcher.drained()
    assert (len(notes.started), fetcher.free) == (3, 0)
    for at in range(7):
        await eventually(lambda at=at: len(notes.started) > at, "the next task")
        fetcher.report(completed(notes.started[at]))
        assert fetcher.free >= 0
    await fetcher.drained()
    assert sorted(notes.ids) == sorted(ids)
    assert notes.statuses == [ACCEPTED] * 7
    assert (fetcher.free, fetcher.is_dry, fetcher.went_dry.is_set()) == (3, True, True)


async def test_two_calls_share_the_slots(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """Each call asks for half of the slots, and there are two at most."""
    line = Line(session)
    for _ in range(10):
        await submit(broker)
    fetcher = await fetcher_of(broker, line, notes, slots=4)
    fetcher.open()
    await fetcher.drained()
    assert sorted(line.asked) == [(0, 0, 2), (1, 0, 2)]
    for one in notes.started[:4]:
        fetcher.report(completed(one))
    await fetcher.drained()
    assert len(notes.started) == 8
    for one in notes.started[4:]:
        fetcher.report(completed(one))
    await eventually(lambda: len(notes.started) == 10, "all tasks")
    for one in notes.started[8:]:
        fetcher.report(completed(one))
    await fetcher.drained()


@pytest.mark.parametrize("lost", [1, 4])
async def test_lost_answers_change_nothing(
    broker: Broker, session: WorkerSession, notes: Notes, lost: int
) -> None:
    """The same request is sent until it is answered: same tasks once, outcomes "already" taken."""
    line = Line(session)
    ids = [await submit(broker) for _ in range(2)]
    fetcher = await fetcher_of(broker, line, notes, slots=1)
    line.lose(lost, BrokerUnavailableError("the answer was lost"))
    fetcher.open()
    await fetcher.drained()
    assert notes.ids == ids[:1]
    assert line.asked == [(1, 0, 1)] * (lost + 1)
    line.lose(lost, BrokerUnavailableError("the answer was lost"))
    fetcher.report(completed(notes.started[0]))
    await fetcher.drained()
    assert notes.ids == ids
    assert notes.statuses == [ALREADY]
    assert line.asked[lost + 1 :] == [(1, 1, 1)] * (lost + 1)
    fetcher.report(completed(notes.started[1]))
    await fetcher.drained()
    assert [one.number for one in notes.started] == [1, 1]
    assert (await broker.inspection.get(ids[0])).state is TaskState.COMPLETED


async def test_a_bell_during_a_call_is_heard(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """A task that comes after a call has looked, and rings before it is answered, is taken."""
    line = Line(session)
    fetcher = await fetcher_of(broker, line, notes, slots=1)
    fetcher.streams = [session.keys.stream("default", 1)]

    async def come_and_ring(_: Fetched) -> None:
        line.after = None
        await submit(broker)
        fetcher.wake()

    line.after = come_and_ring
    fetcher.open()
    await fetcher.drained()
    assert len(notes.started) == 1
    fetcher.report(completed(notes.started[0]))
    await fetcher.drained()


async def test_a_bell_while_slots_are_reserved_is_heard(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """Recovery holds all slots for a moment: giving them back looks for what rang meanwhile."""
    fetcher = await fetcher_of(broker, session, notes, slots=2)
    fetcher.streams = [session.keys.stream("default", 1)]
    fetcher.open()
    await fetcher.drained()
    assert fetcher.reserve(100) == 2
    await submit(broker)
    fetcher.wake()
    await asyncio.sleep(0)
    assert (fetcher.free, notes.started, fetcher.reserve(100)) == (0, [], 0)
    fetcher.give_back(2)
    await eventually(lambda: notes.started, "the task")
    fetcher.report(completed(notes.started[0]))
    await fetcher.drained()
    assert fetcher.free == 2


@pytest.mark.parametrize("stop", ["close", "pause"])
async def test_outcomes_go_out_when_no_tasks_are_wanted(
    broker: Broker, session: WorkerSession, notes: Notes, stop: str
) -> None:
    """A closed or paused fetcher takes nothing and still reports."""
    line = Line(session)
    for _ in range(2):
        await submit(broker)
    fetcher = await fetcher_of(broker, line, notes, slots=1)
    fetcher.open()
    await fetcher.drained()
    if stop == "close":
        fetcher.close()
    else:
        fetcher.is_paused = True
    fetcher.report(completed(notes.started[0]))
    fetcher.wake()
    await fetcher.drained()
    assert notes.statuses == [ACCEPTED]
    assert (len(notes.started), line.asked[-1][2], fetcher.free) == (1, 0, 1)


async def test_a_late_answer_is_not_trusted(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """What an answer brings late may have been given to another: the broker is asked again."""
    line = Line(session)
    task_id = await submit(broker)
    fetcher = await fetcher_of(broker, line, notes, slots=1, trust_seconds=0.05)

    async def given_back_meanwhile(fetched: Fetched) -> None:
        line.after = None
        released = [Outcome(delivery=d, kind=OutcomeKind.RELEASE) for d in fetched.deliveries]
        await session.release(released)
        await asyncio.sleep(0.06)

    line.after = given_back_meanwhile
    fetcher.open()
    await eventually(lambda: notes.started, "the task, taken again")
    assert [(id_from_hex(one.digits), one.number) for one in notes.started] == [(task_id, 2)]
    assert line.asked[0] == line.asked[1]
    fetcher.report(completed(notes.started[0]))
    await fetcher.drained()
    assert fetcher.free == 1


async def test_an_outcome_that_is_always_refused_holds_up_no_other(
    rough_broker: Broker, notes: Notes
) -> None:
    """A script error for one outcome: the others are taken, it is given up, the lane works on."""
    session = await joined(rough_broker)
    ids = [await submit(rough_broker) for _ in range(3)]
    fetcher = await fetcher_of(rough_broker, session, notes, slots=2)
    fetcher.open()
    await fetcher.drained()
    await rough_broker.redis.hset(session.keys.task(id_to_hex(ids[0])), "a", "no number")
    broken, sound = notes.started
    fetcher.report(Outcome(delivery=broken, kind=OutcomeKind.FAIL, value=b"x", max_retries=1))
    fetcher.report(completed(sound))
    await eventually(lambda: notes.given_up, "the outcome given up")
    await fetcher.drained()
    assert [outcome.delivery for outcome in notes.given_up] == [broken]
    assert (await rough_broker.inspection.get(ids[1])).state is TaskState.COMPLETED
    fetcher.wake()
    await eventually(lambda: len(notes.started) == 3, "the third task")
    fetcher.report(completed(notes.started[2]))
    await fetcher.drained()
    assert (await fields(rough_broker, ids[2]))["s"] == "c"
    assert fetcher.free == 2


async def test_answers_that_cannot_be_read_do_not_block_a_lane(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """After a few of them, the outcomes are reported by themselves and the number moves on."""
    line = Line(session)
    task_id = await submit(broker)
    fetcher = await fetcher_of(broker, line, notes, slots=1)
    fetcher.open()
    await fetcher.drained()
    line.lose(module.REFUSALS, ValueError("not what was expected"))
    fetcher.report(completed(notes.started[0]))
    await fetcher.drained()
    assert notes.statuses == [ALREADY]
    assert (await broker.inspection.get(task_id)).state is TaskState.COMPLETED
    await submit(broker)
    fetcher.wake()
    await eventually(lambda: len(notes.started) == 2, "the next task")
    assert line.asked[-1][1] > line.asked[-2][1]
    fetcher.report(completed(notes.started[1]))
    await fetcher.drained()
    assert fetcher.free == 1


async def test_a_broker_that_refuses_everything_is_no_reason_to_give_an_outcome_up(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """Without the right to run scripts nothing is the outcome's fault: it is kept."""
    await submit(broker)
    fetcher = await fetcher_of(broker, session, notes, slots=1)
    fetcher.open()
    await fetcher.drained()
    fetcher._session = broken = broker.session("w1", "i1")
    broken._scripts = type("NoScripts", (), {"call": _refuse})()  # type: ignore[assignment]
    fetcher.report(completed(notes.started[0]))
    lanes = fetcher._backoffs
    await eventually(lambda: max(b.failures for b in lanes) > module.REFUSALS, "refusals")
    assert (notes.given_up, notes.statuses) == ([], [])
    broken._scripts = session._scripts
    await fetcher.drained()
    assert (notes.given_up, notes.statuses, fetcher.free) == ([], [ACCEPTED], 1)


async def _refuse(*_: object) -> None:
    raise RuntimeError("NOPERM")


async def test_large_outcomes_go_in_several_calls(
    broker: Broker, session: WorkerSession, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call holds a bounded number of bytes, and at least one outcome."""
    monkeypatch.setattr(module, "CALL_BYTES", 100)
    line = Line(session)
    for _ in range(4):
        await submit(broker)
    fetcher = await fetcher_of(broker, line, notes, slots=4)
    fetcher.open()
    await fetcher.drained()
    line.reported.clear()
    for one, size in zip(notes.started, (200, 40, 40, 40), strict=True):
        fetcher.report(completed(one, b'"' + b"x" * (size - 2) + b'"'))
    await fetcher.drained()
    assert [count for count in line.reported if count] == [1, 2, 1]
    assert notes.statuses == [ACCEPTED] * 4


async def test_calls_under_way_can_be_given_up(
    broker: Broker, session: WorkerSession, notes: Notes
) -> None:
    """Abort ends calls that are never answered."""
    line = Line(session)

    async def never(_: Fetched) -> None:
        await asyncio.Event().wait()

    line.after = never
    fetcher = await fetcher_of(broker, line, notes)
    fetcher.open()
    await eventually(lambda: line.asked, "a call")
    await fetcher.abort()
    await fetcher.drained()
