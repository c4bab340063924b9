"""retry: an ended task goes back to its queue, as if it were new."""

from __future__ import annotations

import pytest
from bench import Bench, changes, fail, task_id_of

from taskqueue_core.codec import encode_body
from taskqueue_core.errors import NotFoundError, StateConflictError
from taskqueue_core.keys import id_to_hex
from taskqueue_core.states import RETRYABLE, TaskState

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("state", sorted(RETRYABLE))
async def test_retry(bench: Bench, state: TaskState) -> None:
    """The task waits again in its queue; attempts and error are gone, deliveries go on."""
    task_id, delivery = await bench.make(state, queue="mail", priority=2)
    digits = id_to_hex(task_id)
    created = (await bench.broker.inspection.get(task_id)).created_at_ms
    before = await bench.snapshot()
    await bench.broker.retry(task_id)
    after = await bench.snapshot()
    found = changes(before, after)
    [(_, entry, owner)] = after["q:mail:2"]
    assert [(kind, data["attempts"]) for kind, data in found["events"]] == [("task.queued", 0)]
    task = await bench.task(task_id)
    token = task.pop("x")
    expected = {
        "s": "p", "y": "echo", "m": entry, "q": "mail", "p": "2", "b": "[{}]",
        "c": str(created), "u": str(bench.now),
    }  # fmt: skip
    was_run = state is not TaskState.CANCELLED
    assert task == expected | ({"f": "1:i1"} if was_run else {})
    assert (len(token), owner) == (16, "")
    assert not {"done", "dlq"} & after.keys()
    assert found["stats"] == {"backlog": "1", "retried:other": "1"}
    assert after["wake:mail"] == ["1"]
    await bench.join()
    [again] = (await bench.fetch(5)).deliveries
    assert (again.digits, again.number, again.attempts) == (digits, 1 + was_run, 1)
    assert delivery.digits == digits


@pytest.mark.parametrize("state", sorted(set(TaskState) - RETRYABLE))
async def test_other_states(bench: Bench, state: TaskState) -> None:
    """Any other state is a conflict; nothing changes."""
    task_id, _ = await bench.make(state)
    before = await bench.snapshot()
    with pytest.raises(StateConflictError):
        await bench.broker.retry(task_id)
    assert changes(before, await bench.snapshot()) == {}


async def test_large_errors_are_deleted(bench: Bench) -> None:
    """The key of a large error goes with it."""
    delivery = await bench.start()
    await bench.w1.fail([fail(delivery, b"e" * 65)])
    await bench.broker.retry(task_id_of(delivery))
    assert f"r:{delivery.digits}" not in await bench.snapshot()
    assert (await bench.broker.inspection.get(task_id_of(delivery))).error == ""


async def test_only_dead_letters(bench: Bench) -> None:
    """``only_dead`` finds dead letters alone; ``message_id`` only that death of one."""
    dead, _ = await bench.make(TaskState.DEAD_LETTER)
    failed, _ = await bench.make(TaskState.FAILED)
    [letter] = (await bench.broker.dead_letters.page()).letters
    assert letter.message_id == f"{bench.now}-1"
    before = await bench.snapshot()
    for task_id, message_id in ((failed, None), (dead, "1-1"), (dead, f"{bench.now}-2")):
        with pytest.raises(NotFoundError, match="dead letter"):
            await bench.broker.retry(task_id, only_dead=True, message_id=message_id)
    assert changes(before, await bench.snapshot()) == {}
    await bench.broker.retry(dead, only_dead=True, message_id=letter.message_id)
    assert await bench.state(dead) is TaskState.PENDING


async def test_dead_letter_missing_from_its_index(rough_bench: Bench) -> None:
    """A dead letter whose index entry is gone has no message id to match, and can be retried."""
    bench = rough_bench
    task_id, _ = await bench.make(TaskState.DEAD_LETTER)
    await bench.redis.delete(bench.keys.dead_letters)
    with pytest.raises(NotFoundError):
        await bench.broker.retry(task_id, only_dead=True, message_id="5-1")
    await bench.broker.retry(task_id)
    assert await bench.broker.inspection.audit() == []


async def test_repeat(bench: Bench) -> None:
    """The same call again is answered alike, even when the task runs or is dead again."""
    task_id, _ = await bench.make(TaskState.DEAD_LETTER)
    digits = id_to_hex(task_id)
    keys = [bench.keys.meta, bench.keys.task(digits)]
    arguments: list[str | bytes | int] = [digits, "token-1", 0, "", ""]
    assert await bench.broker.scripts.call("retry", keys, arguments) == b""
    [delivery] = (await bench.fetch()).deliveries
    await bench.w1.fail([fail(delivery)])
    before = await bench.snapshot()
    assert await bench.broker.scripts.call("retry", keys, arguments) == b""
    assert changes(before, await bench.snapshot()) == {}
    await bench.broker.retry(task_id)
    assert await bench.state(task_id) is TaskState.PENDING


async def test_unknown(bench: Bench) -> None:
    """An unknown id is not found."""
    with pytest.raises(NotFoundError, match="task"):
        await bench.broker.retry(bench.broker.new_task_id())


@pytest.mark.parametrize("old", [b'{"a":1}', b'{"a":"%b"}' % (b"x" * 80)])
@pytest.mark.parametrize("new", [b'{"b":18446744073709551617}', b'{"b":"%b"}' % (b"y" * 80)])
@pytest.mark.parametrize("metadata", [b"", b'{"customer":"17"}'])
async def test_replay_with_another_payload(
    bench: Bench, old: bytes, new: bytes, metadata: bytes
) -> None:
    """The task runs with the new payload, its metadata kept, wherever the bodies are kept."""
    delivery = await bench.start(payload=old, metadata=metadata)
    await bench.w1.fail([fail(delivery)])
    task_id = task_id_of(delivery)
    await bench.broker.retry(task_id, only_dead=True, payload=new)
    task = await bench.broker.inspection.get(task_id)
    assert (task.payload, task.metadata, task.state) == (new, metadata, TaskState.PENDING)
    [again] = (await bench.fetch()).deliveries
    assert again.body == encode_body(new, metadata)
    keys = await bench.snapshot()
    assert (f"b:{delivery.digits}" in keys) == (len(again.body) > 64)


async def test_replay_changes_nothing_it_may_not_retry(bench: Bench) -> None:
    """Of a task that may not be retried the payload stays as well; a repeat is no second edit."""
    pending, _ = await bench.make(TaskState.PENDING)
    failed, _ = await bench.make(TaskState.FAILED)
    dead, _ = await bench.make(TaskState.DEAD_LETTER)
    before = await bench.snapshot()
    with pytest.raises(StateConflictError):
        await bench.broker.retry(pending, payload=b'{"b":1}')
    for task_id, message_id in ((failed, None), (dead, "1-1")):
        with pytest.raises(NotFoundError):
            await bench.broker.retry(
                task_id, only_dead=True, message_id=message_id, payload=b'{"b":1}'
            )
    assert changes(before, await bench.snapshot()) == {}
    digits = id_to_hex(dead)
    keys = [bench.keys.meta, bench.keys.task(digits)]
    arguments: list[str | bytes | int] = [digits, "token-1", 1, "", '[{"b":1}]']
    assert await bench.broker.scripts.call("retry", keys, arguments) == b""
    before = await bench.snapshot()
    assert await bench.broker.scripts.call("retry", keys, arguments) == b""
    assert changes(before, await bench.snapshot()) == {}
