"""Random histories with repairs in between: none when all is well, all of it after damage.

See ``test_model.py``; ``MODEL_EXAMPLES`` sets how many histories are tried.
"""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from machine import Machine
from redis.exceptions import ResponseError

from taskqueue_core.keys import GROUP
from taskqueue_core.settings import Settings
from taskqueue_core.states import TaskState

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "15"))


class RepairMachine(Machine):
    """The machine of ``machine.py``, somebody who deletes keys, and somebody who repairs."""

    def _repair(self) -> list[str]:
        async def repairs() -> list[str]:
            return [sentence async for sentence in self.broker.repair()]

        return self.run(repairs())

    @invariant()
    def nothing_is_touched(self) -> None:
        """In a healthy namespace there is nothing to repair, whatever has happened in it."""
        before = self.run(self.bench.snapshot())
        assert self._repair() == []
        assert self.run(self.bench.snapshot()) == before

    @rule(priority=st.integers(0, 3))
    def delete_a_stream(self, priority: int) -> None:
        """What waited waits again, in any order; what ran waits too and has its attempt back."""
        stream = self.bench.keys.stream("default", priority)
        self.run(self.bench.redis.delete(stream))
        lost = [
            task for task in self.model.in_state(TaskState.RUNNING) if task.priority == priority
        ]
        waiting = self.model.waiting[priority]
        assert len(self._repair()) == len(lost) + len(waiting)
        for task in lost:
            self.model.release(task)
        with suppress(ResponseError):  # an empty stream's group is made by who next reads it
            self.run(self.bench.redis.xgroup_create(stream, GROUP, "0", mkstream=True))
        entries = self.run(self.bench.redis.xrange(stream))
        order = [fields[b"i"].decode() for _, fields in entries]
        assert sorted(order) == sorted(waiting)
        self.model.waiting[priority] = order
        for digits in order:
            self.model.entries += 1
            self.model.tasks[digits].entry = self.model.entries

    @rule(index=st.sampled_from(["sched", "done", "dlq", "queues"]))
    def delete_an_index(self, index: str) -> None:
        """It is as it was, times included."""
        before = self.run(self.bench.snapshot())
        self.run(self.bench.redis.delete(self.bench.keys.prefix + index))
        self._repair()
        after = self.run(self.bench.snapshot())
        if index == "queues":
            assert before.get(index, {}).keys() >= after.get(index, {}).keys()
        else:
            assert after.get(index) == before.get(index)

    @rule()
    def acknowledge(self) -> None:
        """What runs goes on running: its worker has its lease again, a fresh one."""
        running = self.model.in_state(TaskState.RUNNING)
        for task in running:
            stream = self.bench.keys.stream("default", task.priority)
            entry = self.run(self.bench.redis.hget(self.bench.keys.task(task.digits), "m"))
            self.run(self.bench.redis.xack(stream, GROUP, entry))
            task.age = 0
        assert len(self._repair()) == len(running)


@pytest.mark.timeout(600)
def test_random_histories_with_repairs(settings: Settings) -> None:
    """Repair changes nothing but damage, and after it the model and the broker agree."""
    machine = type("BoundRepairMachine", (RepairMachine,), {"redis_settings": settings})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
