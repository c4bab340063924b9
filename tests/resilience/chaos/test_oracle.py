"""Each rule of the oracle finds what it is for, and has nothing to say of a good run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from taskqueue_core.events import Event
from taskqueue_core.models import Priority, Task
from taskqueue_core.states import TaskState
from taskqueue_core.verification import oracle
from taskqueue_core.verification.faults import BROKER, Incident, Kind
from taskqueue_core.verification.ledger import Entry
from taskqueue_core.verification.oracle import Evidence

LEASE = 5.0


def task(task_id: str, **fields: Any) -> Task:
    """Return a completed task of one delivery."""
    values: dict[str, Any] = {
        "type": "verify.async",
        "queue": "default",
        "priority": Priority.NORMAL,
        "state": TaskState.COMPLETED,
        "created_at_ms": 1,
        "updated_at_ms": 1,
        "deliveries": 1,
        "max_retries": 2,
        "payload": b'{"milliseconds":5,"failures":0}',
        "metadata": b'{"expected":"completed"}',
        "result": b'"1"',
    }
    return Task(id=task_id, **values | fields)


def event(sequence: int, kind: str, task_id: str, state: str) -> Event:
    """Return an event of a task."""
    return Event(sequence, f"task.{kind}", 1, {"task_id": task_id, "state": state})


def history(task_id: str, first: int) -> list[Event]:
    """Return the events of a task that was completed at the first attempt."""
    return [
        event(first, "submitted", task_id, "pending"),
        event(first + 1, "started", task_id, "running"),
        event(first + 2, "completed", task_id, "completed"),
    ]


def good() -> Evidence:
    """Return a run: ``a`` was simply done, ``b`` again after its worker was killed."""
    return Evidence(
        accepted={"a": 1.0, "b": 1.1},
        entries=[
            Entry("start", "a", 1, "worker-1.1", 1.2),
            Entry("end", "a", 1, "worker-1.1", 1.3),
            Entry("start", "b", 1, "worker-2.1", 1.3),
            Entry("start", "b", 2, "worker-1.1", 7.0),
            Entry("end", "b", 2, "worker-1.1", 7.5),
        ],
        events=history("a", 1) + history("b", 4),
        tasks={"a": task("a"), "b": task("b", deliveries=2, result=b'"2"')},
        incidents=[Incident(kind=Kind.WORKER_KILL, who="worker-2.1", began=2.0, ended=2.0)],
        stats={"stale": 0},
        lease_seconds=LEASE,
        submitted_until=8.0,
        lines={"worker-1.1": [1.0, 2.0]},
        ready={"worker-1.1": 0.5, "server-1.1": 0.5},
    )


def test_a_good_run() -> None:
    """Nothing is wrong with it, and its redelivery is measured."""
    assert oracle.judge(good()) == []
    assert oracle.redeliveries(good()) == [5.0]


def with_task(name: str, **fields: Any) -> Callable[[Evidence], Evidence]:
    """Return a change of one task."""

    def change(run: Evidence) -> Evidence:
        changed = msgspec.structs.replace(run.tasks[name], **fields)
        return replace(run, tasks={**run.tasks, name: changed})

    return change


def with_entries(*entries: Entry) -> Callable[[Evidence], Evidence]:
    """Return a change that adds lines to the ledger."""
    return lambda run: replace(run, entries=[*run.entries, *entries])


def with_incidents(*incidents: Incident) -> Callable[[Evidence], Evidence]:
    """Return a change of what was done."""
    return lambda run: replace(run, incidents=incidents)


def with_events(change: Callable[[list[Event]], list[Event]]) -> Callable[[Evidence], Evidence]:
    """Return a change of the event stream."""
    return lambda run: replace(run, events=change(list(run.events)))


def broker(kind: Kind, began: float, ended: float) -> Incident:
    """Return an absence of the broker."""
    return Incident(kind=kind, who=BROKER, began=began, ended=ended)


RUNS: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "lost": (
        lambda run: replace(run, accepted={**run.accepted, "c": 2.0}),
        "task c was accepted and is lost",
    ),
    "stuck": (with_task("a", state=TaskState.RUNNING), "task a is stuck: running"),
    "wrong ending": (
        with_task("a", state=TaskState.DEAD_LETTER, reason="poison"),
        "task a ended as dead_letter instead of completed: poison",
    ),
    "ended twice": (
        with_events(lambda events: [*events, event(7, "completed", "a", "completed")]),
        "task a has 2 endings",
    ),
    "never ended": (with_events(lambda events: events[:-1]), "task b has 0 endings"),
    "other state": (
        with_events(lambda events: [*events, event(7, "queued", "a", "pending")]),
        "task a is completed, by its events pending",
    ),
    "gap": (
        with_events(lambda events: [Event(9, "events.gap", 1, {"missed": 3}), *events]),
        "3 events are missing",
    ),
    "fence twice": (
        with_entries(Entry("start", "a", 1, "worker-1.1", 1.25)),
        "task a was started 2 times with fence 1",
    ),
    "without a cause": (with_incidents(), "task b ran again without a cause (0 failures planned)"),
    "broker is no cause": (
        with_incidents(broker(Kind.BROKER_KILL, 2.0, 2.5)),
        "task b ran again without a cause",
    ),
    "unknown task": (with_entries(Entry("start", "x", 1, "worker-1.1", 2.0)), "task x was run"),
    "foreign result": (with_task("b", result=b'"1"'), "task b has the result of delivery 1 of 2"),
    "no handler": (
        lambda run: replace(run, entries=[one for one in run.entries if one.what == "start"]),
        "task a is completed, but delivery 1 never came to its end",
    ),
    "slow return": (
        with_incidents(*good().incidents, broker(Kind.OUTAGE, 1.4, 1.5)),
        "the first start 5.5 s after the broker's return",
    ),
    "noise": (
        lambda run: replace(run, lines={"server-1.1": [0, 10, 20, 30, 40, 59, 100]}),
        "server-1.1 wrote 6 log lines within a minute",
    ),
    "stale": (
        with_entries(Entry("end", "b", 1, "worker-2.1", 7.2)),
        "1 handlers ended after their task was somebody else's",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_violation(name: str) -> None:
    """One change of a good run is one violation that says what is wrong."""
    change, said = RUNS[name]
    found = oracle.judge(change(good()))
    assert any(said in violation for violation in found), found


def test_late_redelivery() -> None:
    """One of a hundred may take longer than the lease and two seconds; more may not."""
    waits = [1.0] * 98 + [7.5] * 2
    assert oracle.percentile(waits, 99) == 7.5
    run = good()
    late = [replace_start(entry) for entry in run.entries]
    found = oracle.judge(replace(run, entries=late))
    assert len(found) == 1
    assert "took 7.5 s at the 99th percentile, 7.0 s are allowed" in found[0]
    assert oracle.judge(replace(run, entries=late, slack_seconds=1.0)) == []


def replace_start(entry: Entry) -> Entry:
    """Return an entry of ``b``'s second delivery two and a half seconds later."""
    is_second = entry.task_id == "b" and entry.fence == 2
    return msgspec.structs.replace(entry, at=entry.at + 2.5) if is_second else entry


def test_redelivery_ends_with_the_takeover() -> None:
    """What counts is when the task has a new worker, by the broker's clock, not when it starts."""
    taken = Event(9, "task.recovered", 105_500, {"task_id": "b", "state": "completed"})
    run = with_events(lambda events: [*events, taken])(good())
    assert oracle.redeliveries(replace(run, broker_offset=100.0)) == [3.5]


def test_redelivery_during_an_absence_of_the_broker() -> None:
    """It is not measured: leases are extended then."""
    run = good()
    absent = [*run.incidents, broker(Kind.BROKER_KILL, 3.0, 3.5)]
    assert oracle.redeliveries(replace(run, incidents=absent)) == []


def test_a_return_that_never_came() -> None:
    """Where nothing was accepted any more, the time until submissions ended is what counts."""
    run = with_incidents(*good().incidents, broker(Kind.CLIENT_KILL, 1.4, 1.5))(good())
    said = "connections killed every 200 ms: the first 201 6.5 s after the broker's return"
    assert any(said in one for one in oracle.judge(run))
    assert oracle.judge(replace(run, submitted_until=6.5, slack_seconds=1.0)) == []


def test_absences_one_after_the_other() -> None:
    """The first one is judged only where five seconds were left before the next."""
    kill = broker(Kind.BROKER_KILL, 1.3, 1.4)
    soon, late = broker(Kind.BROKER_STALL, 2.0, 6.5), broker(Kind.BROKER_STALL, 6.6, 6.7)
    run = good()
    named = [what for what, _ in oracle.resumptions(replace(run, incidents=[soon, kill]))]
    assert named == ["broker stalled: the first start", "broker stalled: the first 201"]
    both = oracle.resumptions(replace(run, incidents=[kill, late]))
    assert [round(seconds, 1) for _, seconds in both] == [5.6, 6.6, 0.3, 1.3]


@pytest.mark.parametrize(
    "incident",
    [
        Incident(kind=Kind.SERVER_KILL, who="server-1.1", began=1.2, ended=1.2),
        Incident(kind=Kind.FREEZE, who="worker-1.1", began=2.0, ended=3.0),
    ],
)
def test_a_return_that_nobody_was_there_for(incident: Incident) -> None:
    """That processes take time to start, or are frozen, is not the broker's."""
    run = with_incidents(broker(Kind.BROKER_KILL, 1.3, 1.4), incident)(good())
    assert oracle.resumptions(run) == []
    both = {"worker-2.1": 1.0, "server-2.1": 1.0}
    assert len(oracle.resumptions(replace(run, ready={**run.ready, **both}))) == 2


def test_a_thawed_worker_begins_what_it_has_lost() -> None:
    """Its start comes after that of the next delivery; that it was frozen explains it."""
    run = good()
    entries = [one for one in run.entries if one.member != "worker-2.1"]
    late = replace(run, entries=[*entries, Entry("start", "b", 1, "worker-2.1", 9.0)])
    frozen = Incident(kind=Kind.FREEZE, who="worker-2.1", began=1.4, ended=8.9)
    assert oracle.judge(replace(late, incidents=[frozen])) == []
    long_ago = replace(late, incidents=[replace(frozen, ended=1.9)])
    assert any("without a cause" in one for one in oracle.judge(long_ago))


def test_planned_failures_explain_as_many_starts() -> None:
    """A task that is to fail once may be started twice without a cause, but not three times."""
    payload = json.dumps({"milliseconds": 5, "failures": 1}).encode()
    run = with_task("a", payload=payload, deliveries=2, result=b'"2"')(good())
    again = [Entry(what, "a", 2, "worker-1.1", 2.0) for what in ("start", "end")]  # type: ignore[arg-type]
    run = with_entries(*again)(run)
    assert oracle.judge(run) == []
    third = with_entries(Entry("start", "a", 3, "worker-1.1", 3.0))(run)
    assert any("without a cause (1 failures planned)" in one for one in oracle.judge(third))


def test_planned_dead_letter() -> None:
    """A task that was submitted to die, and did, is no violation."""
    dead = with_task(
        "a",
        state=TaskState.DEAD_LETTER,
        metadata=b'{"expected":"dead_letter"}',
        payload=b'{"milliseconds":5,"failures":9}',
        result=b"",
    )(good())
    events = [*dead.events[:2], event(3, "dead_letter", "a", "dead_letter"), *dead.events[3:]]
    assert oracle.judge(replace(dead, events=events)) == []


def test_every_rule_is_tried() -> None:
    """The rules are those that the table above is about."""
    tried = {rule.__name__ for rule in oracle.RULES}
    assert tried == {
        *("lost", "stuck", "wrong_ending", "ended_twice", "gaps", "fence_reused"),
        *("unexplained_start", "foreign_result", "late_redelivery", "slow_return", "noisy"),
        "uncounted_stale",
    }
