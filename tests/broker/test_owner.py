"""Owners: a task remembers whose it is, and to another owner it does not exist."""

from __future__ import annotations

import pytest
from bench import Bench, changes, fail, release

from taskqueue_core.errors import NotFoundError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import TaskState

pytestmark = pytest.mark.anyio

LARGE = b'"' + b"x" * 100 + b'"'


async def test_owner_is_kept(bench: Bench) -> None:
    """A task has the owner that it was submitted with; without one nothing is written."""
    owned, free = await bench.submit(owner="acme"), await bench.submit()
    assert (await bench.task(owned))["O"] == "acme"
    assert "O" not in await bench.task(free)
    assert (await bench.broker.inspection.get(owned)).owner == "acme"
    assert (await bench.broker.inspection.get(free)).owner == ""


@pytest.mark.parametrize("owner", ["acme", ""])
async def test_own_tasks(bench: Bench, owner: str) -> None:
    """The owner reads and cancels its task, and so does who sees everything."""
    task_id = await bench.submit(owner="acme")
    assert (await bench.broker.inspection.get(task_id, owner=owner)).id == task_id
    await bench.broker.cancel(task_id, owner=owner)
    assert await bench.state(task_id) is TaskState.CANCELLED


@pytest.mark.parametrize("owner", ["acme", ""])
async def test_foreign_tasks(bench: Bench, owner: str) -> None:
    """Another's task is not found, nor is one without an owner; nothing changes."""
    task_id = await bench.submit(owner=owner, payload=LARGE)
    before = await bench.snapshot()
    for name in ("ACME", "acm", "acme2", "other"):
        with pytest.raises(NotFoundError, match=f"^task {task_id} not found$"):
            await bench.broker.inspection.get(task_id, owner=name)
        with pytest.raises(NotFoundError, match=f"^task {task_id} not found$"):
            await bench.broker.cancel(task_id, owner=name)
    assert changes(before, await bench.snapshot()) == {}


async def test_foreign_is_read_as_missing(bench: Bench) -> None:
    """Of a foreign task nothing leaves the broker, its body is not even read."""
    digits = id_to_hex(await bench.submit(owner="acme", payload=LARGE))
    keys = [bench.keys.meta, bench.keys.task(digits), bench.keys.task("0" * 32)]
    foreign, missing = await bench.broker.scripts.call("read", keys, ["other"])
    assert foreign == missing == [[], b"", b""]


async def test_some_are_own(bench: Bench) -> None:
    """Of many tasks the owner's are read, in order."""
    ids = [await bench.submit(owner=owner) for owner in ("a", "b", "", "a")]
    tasks = await bench.broker.inspection.read(bench.keys, list(map(id_to_hex, ids)), owner="a")
    assert [task.id for task in tasks] == [ids[0], ids[3]]


async def live_through_everything(bench: Bench, owner: str) -> None:
    """Bring tasks of an owner into every state, through every kind of event but progress."""
    delivery = await bench.start(owner=owner)
    await bench.w1.release([release(delivery)])
    [delivery] = (await bench.fetch()).deliveries
    await bench.age(delivery, 20_000)
    await bench.beat()
    [delivery] = (await bench.w1.recover(1, streams=await bench.streams())).deliveries
    await bench.w1.fail([fail(delivery, max_retries=5, delay_ms=1_000)])
    await bench.advance(1_000)
    await bench.beat()
    [delivery] = (await bench.fetch()).deliveries
    await bench.w1.fail([fail(delivery)])
    await bench.broker.redrive()
    [delivery] = (await bench.fetch()).deliveries
    await bench.w1.fail([fail(delivery)])
    await bench.broker.clear()
    for state in (TaskState.COMPLETED, TaskState.CANCELLED):
        await bench.make(state, owner=owner)


async def test_every_event_names_the_owner(bench: Bench) -> None:
    """Whatever happens to an owned task, each event says whose it is, beside what clients see."""
    await live_through_everything(bench, "acme")
    events = [event for event in await bench.events() if event.type.startswith("task.")]
    assert {event.type.removeprefix("task.") for event in events} == {
        *("submitted", "started", "queued", "recovered", "retrying", "failed", "dead_letter"),
        *("completed", "cancelled"),
    }
    assert {event.owner for event in events} == {"acme"}
    assert not any("owner" in event.data for event in events)


async def test_events_of_others_name_none(bench: Bench) -> None:
    """Beside owned tasks, events of the others and of workers have no owner."""
    await bench.make(TaskState.CANCELLED, owner="acme")
    last = (await bench.events())[-1].sequence
    await live_through_everything(bench, "")
    assert {event.owner for event in await bench.events(last)} == {""}


async def test_mark_of_the_partition(bench: Bench) -> None:
    """Tasks are asked for their owner only where there has been an owned one."""
    await bench.submit()
    assert "owners" not in (await bench.snapshot())["meta"]
    await bench.submit(owner="acme")
    assert (await bench.snapshot())["meta"]["owners"] == "1"
