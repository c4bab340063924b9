"""What ``taskqueue audit`` reports, and what it repairs."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from taskqueue_core.broker import Broker
from taskqueue_core.cli.app import app
from taskqueue_core.cli.audit import confirmed
from taskqueue_core.keys import id_to_hex
from taskqueue_core.models import NewTask, Priority
from taskqueue_core.settings import Settings


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("looks", "reported"),
    [
        ([[]], []),
        ([["a", "b"], ["c", "b"]], ["b"]),
        ([["moved"], []], []),
    ],
)
async def test_violation_is_one_that_stays(looks: list[list[str]], reported: list[str]) -> None:
    """A task that moved between two reads is no violation; a clean first look is enough."""
    left = list(looks)

    async def look() -> list[str]:
        return left.pop(0)

    assert await confirmed(look) == reported
    assert left == []


async def run(settings: Settings, *flags: str) -> tuple[int, str]:
    """Run ``taskqueue audit`` on the test's namespace; return its exit code and what it printed."""
    variables = {"TASKQUEUE_QUEUE_NAMESPACE": settings.queue.namespace}
    arguments = ["audit", "--redis-url", settings.redis.url, *flags]
    result = await asyncio.to_thread(CliRunner(env=variables).invoke, app, arguments)
    return result.exit_code, result.stdout


@pytest.mark.anyio
async def test_repair_of_what_can_be_repaired(broker: Broker, settings: Settings) -> None:
    """Only when told so; each repair is a line, and clean afterwards is success."""
    task = NewTask(id=broker.new_task_id(), type="echo")
    await broker.submit(task)
    await broker.redis.delete(broker.partitions[0].stream("default", 1))
    digits = id_to_hex(task.id)
    violation = f"task {digits} is pending but in: nowhere\n"
    assert await run(settings) == (1, violation)
    assert await run(settings) == (1, violation)
    code, out = await run(settings, "--repair")
    repaired, clean = out.splitlines()
    assert (code, repaired) == (0, f"repaired: task {digits} waits in its queue again")
    assert clean.startswith("clean: every task is in its place (unfinished: 1,")
    assert await run(settings, "--repair") == (0, clean + "\n")


@pytest.mark.anyio
async def test_a_paused_backlog_is_in_its_place(broker: Broker, settings: Settings) -> None:
    """Tasks that wait for their priority to be resumed are clean, and the answer says why."""
    await broker.submit(NewTask(id=broker.new_task_id(), type="echo", priority=Priority.HIGH))
    for priority in (Priority.LOW, Priority.HIGH):
        await broker.priorities.pause(priority)
    code, out = await run(settings)
    assert (code, "(unfinished: 1, dead letters: 0, paused: high low; " in out) == (0, True)


@pytest.mark.anyio
async def test_repair_of_what_cannot(broker: Broker, settings: Settings) -> None:
    """What is left is printed after the repairs, and the exit code is 1."""
    keys, digits = broker.partitions[0], "0" * 32
    await broker.redis.hset(keys.task(digits), mapping={"s": "p", "y": "echo"})
    code, out = await run(settings, "--repair")
    assert (code, out.splitlines()) == (
        1,
        [
            "repaired: queue default is listed again",
            f"repaired: task {digits} waits in its queue again",
            "repaired: the backlog was wrong by 1",
            f"task {digits} has lost its body",
        ],
    )
    await broker.redis.hset(keys.task(digits), "b", "[{}]")
