"""The executor: every delivery ends in exactly one outcome, whatever its handler does."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from crew import Crew, delivery, eventually
from structlog.testing import capture_logs

from taskqueue_core.models import OutcomeKind
from taskqueue_core.plugin import Handler, TaskContext, handler, hookimpl
from taskqueue_core.settings import QueueSettings, Settings, WorkerSettings

pytestmark = pytest.mark.anyio

COMPLETE, FAIL, RELEASE = OutcomeKind.COMPLETE, OutcomeKind.FAIL, OutcomeKind.RELEASE


@pytest.fixture
def settings() -> Settings:
    """Return settings with a timeout of 50 ms for all that says nothing else."""
    return Settings(
        queue=QueueSettings(default_timeout_seconds=0.05),
        worker=WorkerSettings(concurrency=1, max_result_bytes=100),
    )


def raising(error: BaseException, kind: str) -> Handler:
    """Return a handler that raises an error."""

    @handler("echo", timeout=5)
    async def on_loop(ctx: TaskContext, payload: dict[str, Any]) -> None:
        raise error

    @handler("echo", timeout=5)
    def in_thread(ctx: TaskContext, payload: dict[str, Any]) -> None:
        raise error

    return on_loop if kind == "async" else in_thread


@handler("echo", timeout=5)
async def echo(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Return what it was sent and told."""
    return {"payload": payload, "metadata": dict(ctx.metadata), "attempt": ctx.attempt}


@handler("stubborn")
async def stubborn(ctx: TaskContext, payload: dict[str, Any]) -> str:
    """Swallow the first cancellation, then return all the same."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return "done anyway"


class Deaf:
    """A handler that swallows cancellations until it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

        @handler("deaf")
        async def deaf(ctx: TaskContext, payload: dict[str, Any]) -> None:
            while not self.go.is_set():
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    continue

        self.handler = deaf


async def test_a_result_is_reported_and_kept_until_settled(settings: Settings) -> None:
    """Payload, metadata and attempt reach the handler; the lease is kept until the answer."""
    crew = Crew(settings, echo)
    one = delivery(body=b'[{"a":1},{"b":"c"}]', attempts=2)
    outcome = await crew.outcome(one)
    assert outcome.kind is COMPLETE
    assert outcome.value == b'{"payload":{"a":1},"metadata":{"b":"c"},"attempt":2}'
    assert list(crew.executor.running) == [(one.digits, 1)]
    assert crew.executor.active() == 0
    assert crew.executor.running[one.digits, 1].is_renewed
    crew.executor.settled(outcome)
    assert crew.executor.running == {}


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (SystemExit(1), "SystemExit: 1"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (GeneratorExit(), "GeneratorExit: "),
        (asyncio.CancelledError(), "the handler cancelled itself"),
        (StopIteration(), "RuntimeError: coroutine raised StopIteration"),
        (StopAsyncIteration(), "StopAsyncIteration: "),
    ],
)
async def test_whatever_a_handler_raises_fails_its_attempt(
    settings: Settings, kind: str, error: BaseException, text: str
) -> None:
    """No exception takes the loop, the thread or the slot along."""
    crew = Crew(settings, raising(error, kind))
    outcome = await crew.outcome(delivery())
    assert (outcome.kind, outcome.value.decode()) == (FAIL, text)
    assert len(crew.outcomes) == 1


@pytest.mark.parametrize("body", [b"", b"[", b'["\xff"]', b'[{},{"a":1}]'])
async def test_a_body_that_cannot_be_read_is_a_dead_letter(settings: Settings, body: bytes) -> None:
    """A value that was damaged in the broker is reported, and nothing else happens."""
    outcome = await Crew(settings, echo).outcome(delivery(body=body))
    assert (outcome.reason, outcome.value) == (
        "non_retryable",
        b"the stored payload cannot be read",
    )


async def test_a_result_that_cannot_be_stored_fails_for_good(settings: Settings) -> None:
    """The limit is the setting's."""
    outcome = await Crew(settings, echo).outcome(delivery(body=b'["%b"]' % (b"x" * 100)))
    assert (outcome.kind, outcome.reason) == (FAIL, "non_retryable")


async def test_an_unknown_type_is_handed_on(settings: Settings) -> None:
    """What no handler is for is not run, and not held here."""
    crew = Crew(settings, echo)
    one = delivery("other")
    crew.executor.start(one)
    assert (crew.misrouted, crew.executor.running) == ([one], {})


async def test_a_timeout_cancels(settings: Settings) -> None:
    """At its deadline a handler is cancelled, and its attempt has failed."""

    @handler("slow")
    async def slow(ctx: TaskContext, payload: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    crew = Crew(settings, slow)
    outcome = await crew.outcome(delivery("slow"))
    assert (outcome.kind, outcome.value) == (FAIL, b"timed out after 0.05 s")
    assert outcome.duration_ms >= 50
    assert await crew.executor.stopped(1) == 0


async def test_each_task_has_its_own_deadline(settings: Settings) -> None:
    """One timer serves them all: the task's own timeout counts, the earliest comes first."""

    @handler("slow")
    async def slow(ctx: TaskContext, payload: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    crew = Crew(settings, slow)
    crew.executor.start(delivery("slow", 1, timeout_seconds=1))
    crew.executor.start(delivery("slow", 2))
    await eventually(lambda: len(crew.outcomes) == 2, "both timeouts")
    texts = [outcome.value for outcome in crew.outcomes]
    assert texts == [b"timed out after 0.05 s", b"timed out after 1 s"]


async def test_a_swallowed_cancellation_is_a_timeout_all_the_same(settings: Settings) -> None:
    """What a handler returns after its time is over is not a result."""
    outcome = await Crew(settings, stubborn).outcome(delivery("stubborn"))
    assert (outcome.kind, outcome.value) == (FAIL, b"timed out after 0.05 s")


async def test_a_handler_that_does_not_stop_is_stuck(settings: Settings) -> None:
    """After the grace its slot goes to others and its lease ends; one outcome, whatever follows."""
    deaf = Deaf()
    crew = Crew(settings, deaf.handler, grace_seconds=0.1)
    one = delivery("deaf")
    outcome = await crew.outcome(one)
    assert outcome.value == b"timed out after 0.05 s and did not stop"
    assert (crew.executor.stuck, crew.executor.active()) == (1, 0)
    assert await crew.executor.stopped(0.05) == 1
    deaf.go.set()
    assert await crew.executor.stopped(1) == 0
    await eventually(lambda: crew.executor.stuck == 0, "the end of the handler")
    assert len(crew.outcomes) == 1


async def test_the_lease_of_a_hung_handler_is_not_renewed(settings: Settings) -> None:
    """Also when the loop stands still and nobody has noticed yet."""
    crew = Crew(settings, echo, grace_seconds=0.01)
    one = delivery(timeout_seconds=0)
    crew.executor.start(one)
    running = crew.executor.running[one.digits, 1]
    assert running.is_renewed
    time.sleep(0.02)  # noqa: ASYNC251 (the loop that stands still)
    assert not running.is_renewed
    await eventually(lambda: crew.outcomes, "the outcome")


async def test_a_task_whose_time_is_over_before_its_first_step_does_not_run(
    settings: Settings,
) -> None:
    """The loop was blocked from delivery to deadline: a timeout, and the handler is not called."""
    calls: list[str] = []

    @handler("noting")
    async def noting(ctx: TaskContext, payload: dict[str, Any]) -> None:
        calls.append(ctx.id)

    crew = Crew(settings, noting)
    crew.executor.start(delivery("noting"))
    for running in crew.executor.running.values():
        running.alarm = 0.0
    crew.executor._sweep()
    await eventually(lambda: crew.outcomes, "the outcome")
    assert (calls, crew.outcomes[0].value) == ([], b"timed out after 0.05 s")


async def test_a_thread_that_outstays_its_timeout_gives_its_slot_to_another(
    settings: Settings,
) -> None:
    """A thread cannot be stopped: it is asked to, counted as stuck, and others go on."""
    go = threading.Event()
    asked: list[bool] = []

    @handler("waiting")
    def waiting(ctx: TaskContext, payload: dict[str, Any]) -> str:
        if ctx.attempt == 1:
            go.wait(10)
            asked.append(ctx.cancelled)
        return "done"

    crew = Crew(settings, waiting)
    first = await crew.outcome(delivery("waiting", 1))
    assert (first.kind, first.value, crew.executor.stuck) == (FAIL, b"timed out after 0.05 s", 1)
    crew.executor.start(delivery("waiting", 2, attempts=2, timeout_seconds=5))
    await eventually(lambda: len(crew.outcomes) == 2, "the second task")
    assert (crew.outcomes[1].kind, crew.outcomes[1].value) == (COMPLETE, b'"done"')
    go.set()
    assert await crew.executor.stopped(5) == 0
    await eventually(lambda: crew.executor.stuck == 0, "the end of the thread")
    assert (asked, len(crew.outcomes)) == ([True], 2)
    crew.executor.close()


async def test_release_gives_everything_back_once(settings: Settings) -> None:
    """At shutdown: one release each, handlers are cancelled, nothing else is reported."""
    seen: list[str | None] = []

    @handler("slow", timeout=60)
    async def slow(ctx: TaskContext, payload: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.cancel_reason)

    crew = Crew(settings, slow)
    crew.executor.start(delivery("slow", 1))
    await asyncio.sleep(0)
    crew.executor.start(delivery("slow", 2))
    assert crew.executor.release_all() == 2
    assert crew.executor.release_all() == 0
    assert await crew.executor.stopped(1) == 0
    assert [outcome.kind for outcome in crew.outcomes] == [RELEASE, RELEASE]
    assert seen == ["the worker is stopping"]
    assert crew.measurements.take().keys() == {"wait:1:0", "wait_ms:1"}


async def test_only_what_waited_in_its_queue_counts_as_a_wait(settings: Settings) -> None:
    """What comes from a worker that died was started long ago; its run is measured all the same."""
    crew = Crew(settings, echo)
    await crew.outcome(delivery(is_recovered=True, fetched_at_ms=60_000))
    assert {name.partition(":")[0] for name in crew.measurements.take()} == {
        "duration",
        "duration_ms",
    }
    busy, _ = crew.measurements.slot_seconds()
    assert busy > 0


async def test_release_does_not_wait_for_the_deaf(settings: Settings) -> None:
    """Who swallows the cancellation is given back too, and reported as still running."""
    deaf = Deaf()
    crew = Crew(settings, deaf.handler)
    crew.executor.start(delivery("deaf"))
    await asyncio.sleep(0)
    assert crew.executor.release_all() == 1
    assert await crew.executor.stopped(0.05) == 1
    deaf.go.set()
    assert await crew.executor.stopped(1) == 0
    assert [outcome.kind for outcome in crew.outcomes] == [RELEASE]


async def test_a_lost_lease_stops_the_handler(settings: Settings) -> None:
    """Its outcome is reported, and refused by the broker; the answer says so once."""
    gate = threading.Event()

    @handler("thread", timeout=60)
    def in_thread(ctx: TaskContext, payload: dict[str, Any]) -> None:
        gate.wait(10)

    crew = Crew(settings, in_thread)
    one = delivery("thread")
    crew.executor.start(one)
    await asyncio.sleep(0)
    assert crew.executor.lost(one)
    assert not crew.executor.lost(one)
    assert not crew.executor.lost(delivery("thread", 5))
    gate.set()
    await eventually(lambda: crew.outcomes, "the outcome")
    assert crew.outcomes[0].value == b"the lease was lost"
    crew.executor.close()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_hooks_cost_no_outcome(settings: Settings, error: BaseException) -> None:
    """Whatever a plugin's hook raises, the task it was told of ends as it would have."""

    class Rude:
        @hookimpl
        def taskqueue_task_starting(self) -> None:
            raise error

        @hookimpl
        def taskqueue_task_finished(self) -> None:
            raise error

        @hookimpl
        def taskqueue_task_failed(self) -> None:
            raise error

    crew = Crew(settings, echo, raising_as("bad"), Rude())
    with capture_logs():
        assert (await crew.outcome(delivery())).kind is COMPLETE
        crew.outcomes.clear()
        outcome = await crew.outcome(delivery("bad", 2))
    assert outcome.value == b"ValueError: bad"


def raising_as(task_type: str) -> Handler:
    @handler(task_type)
    async def bad(ctx: TaskContext, payload: dict[str, Any]) -> None:
        raise ValueError("bad")

    return bad


async def test_only_failures_that_are_tried_again_count_as_retries(settings: Settings) -> None:
    """The last attempt waits for nothing."""
    crew = Crew(settings, raising_as("bad"))
    await crew.outcome(delivery("bad", 1, attempts=1, max_retries=1))
    assert "retry_delay_ms:bad" in crew.measurements.take()
    crew.executor.start(delivery("bad", 2, attempts=2, max_retries=1))
    await eventually(lambda: len(crew.outcomes) == 2, "the second outcome")
    assert "retry_delay_ms:bad" not in crew.measurements.take()
