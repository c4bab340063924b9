"""Which waiting tasks have no worker: a table of workers and of what waits."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from taskqueue_core.models import HandlerInfo, Priority, Survey, WorkerState
from taskqueue_server.coverage import MAX_NAMED, Coverage, NoWorker


def worker(*types: str, queues: Sequence[str] = (), state: str = "idle") -> WorkerState:
    """Return a live worker that handles some types in some queues, all of them without any."""
    return WorkerState(
        id="w",
        instance="i",
        state=state,
        started_at_ms=0,
        last_heartbeat_ms=0,
        active_tasks=0,
        concurrency=1,
        version="1",
        queues=tuple(queues),
        handlers=msgspec.json.encode({name: HandlerInfo() for name in types}),
    )


def survey(*, waiting: dict[str, int] | None = None, held: dict[str, int] | None = None) -> Survey:
    """Return what waits."""
    oldest = dict.fromkeys(Priority, 0)
    return Survey(oldest_ms=oldest, waiting=waiting or {}, held=held or {})


EVERYTHING = survey(waiting={"default": 3, "mail": 5}, held={"echo": 1, "odd": 7})


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([], NoWorker(16, ("odd", "echo"), ("mail", "default"))),
        ([worker("echo")], NoWorker(7, ("odd",), ())),
        ([worker("echo", "odd")], NoWorker(0, (), ())),
        ([worker("odd", queues=["mail"])], NoWorker(4, ("echo",), ("default",))),
        ([worker("odd", queues=["mail"]), worker("echo", queues=["default"])],
         NoWorker(0, (), ())),
        ([worker("echo", "odd", state="shutting_down")],
         NoWorker(16, ("odd", "echo"), ("mail", "default"))),
        ([worker("echo", "odd", state="paused")], NoWorker(0, (), ())),
    ],
)  # fmt: skip
def test_unserved(workers: list[WorkerState], expected: NoWorker) -> None:
    """Held tasks of a type that nobody handles, and all of a queue that nobody serves."""
    assert Coverage(workers).find_unserved(EVERYTHING) == expected


def test_names_are_bounded() -> None:
    """However many types there are, the ones with most tasks are named and all are counted."""
    held = {f"odd-{number}": number for number in range(1, 1_001)}
    found = Coverage([]).find_unserved(survey(held=held))
    assert found.tasks == 500_500
    assert found.types == tuple(f"odd-{1_000 - n}" for n in range(MAX_NAMED))


@pytest.mark.parametrize(
    ("task_type", "queue", "expected"),
    [
        ("echo", "default", True),
        ("echo", "mail", False),
        ("email", "mail", True),
        ("email", "default", False),
        ("any", "mail", True),
        ("any", "elsewhere", True),
        ("odd", "default", False),
    ],
)
def test_one_task(task_type: str, queue: str, *, expected: bool) -> None:
    """Its type and its queue must be the same worker's business."""
    workers = [
        worker("echo", queues=["default"]), worker("email", queues=["mail"]), worker("any"),
    ]  # fmt: skip
    assert Coverage(workers).has_worker(task_type, queue) is expected
