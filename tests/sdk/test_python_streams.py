"""Streams of events in the Python client: nothing is missed, and what is gone is said."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from blocking_facade import Connect
from live_service import API_KEY, LiveService
from scripted_server import COMPLETED, TASK, Answer, ScriptedEvents, Visit, scripted_events

from taskqueue_client import (
    AuthenticationError,
    EventsMissed,
    NewTask,
    RetryPolicy,
    TaskQueueClient,
    TaskState,
    UnavailableError,
    UnexpectedAnswerError,
    UnknownEvent,
    UnreachableError,
)
from taskqueue_client.events import TaskCompleted, TaskStarted, TaskSubmitted

FAST = RetryPolicy(attempts=2, initial_seconds=0.001, max_seconds=0.01)
TYPES = ("task.submitted", "task.started", "task.completed")
AT = "2026-01-15T12:00:00.000Z"
GAP = {"type": "events.gap", "timestamp": AT, "data": {"missed": 3, "reason": "vanished"}}
LIFE = (TaskSubmitted, TaskStarted, TaskCompleted)


@contextmanager
def followed(
    connect: Connect, *visits: Visit | Answer, tasks: tuple[Answer, ...] = ()
) -> Iterator[tuple[ScriptedEvents, TaskQueueClient]]:
    """Yield a server that gives these events and answers in turn, and a client of it."""
    with scripted_events(*visits, tasks=tasks) as server, connect(server.url, retry=FAST) as client:
        yield server, client


def completed(number: int) -> dict[str, object]:
    """Return an event as the server words it."""
    data = {
        "task_id": TASK["id"],
        "type": "echo",
        "priority": "normal",
        "state": "completed",
        "attempts": 1,
        "worker_id": "w",
        "duration_ms": number,
        "scent": "roses",
    }
    return {"type": "task.completed", "timestamp": AT, "data": data, "id": f"e-{number}"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_missed_when_the_server_restarts(
    client: TaskQueueClient, service: LiveService, number: signal.Signals
) -> None:
    """300 quick tasks are 900 events, each once, in the order of each task."""
    (worker,) = client.workers.list()
    tasks = [NewTask(type="echo") for _ in range(150)]
    with client.events(*TYPES) as stream:
        client.workers.pause(worker.id)
        client.submit_batch(tasks)
        events = [stream.receive(timeout=30) for _ in range(100)]
        client.workers.resume(worker.id)
        # The worker goes on while there is no server.
        service.stop(number)
        service.start()
        client.submit_batch(tasks)
        events += [stream.receive(timeout=30) for _ in range(800)]
        with pytest.raises(TimeoutError):
            stream.receive(timeout=0.3)
    lives: dict[str, list[type]] = {}
    for event in events:
        assert isinstance(event, LIFE)
        lives.setdefault(event.data.task_id, []).append(type(event))
    assert Counter(map(tuple, lives.values())) == {LIFE: 300}
    assert len({event.id for event in events if isinstance(event, LIFE)}) == 900


def test_a_stream_begins_where_it_was_opened(client: TaskQueueClient, service: LiveService) -> None:
    """Also when its first connection is lost before there was an event."""
    with client.events("task.submitted") as stream:
        service.stop()
        service.start()
        task = client.submit_task("echo")
        event = stream.receive(timeout=30)
    assert isinstance(event, TaskSubmitted)
    assert event.data.task_id == task.id


def test_a_stream_goes_on_where_another_one_was(client: TaskQueueClient) -> None:
    """Its cursor is a place, for past events page by page too."""
    with client.events(*TYPES) as stream:
        task = client.submit_task("echo")
        first = stream.receive(timeout=30)
    assert isinstance(first, TaskSubmitted)
    assert stream.cursor == first.id
    client.wait(task.id)
    with client.events(*TYPES, task_id=task.id, since=first.id) as stream:
        assert [type(stream.receive(timeout=30)) for _ in range(2)] == [TaskStarted, TaskCompleted]
    page = client.past_events("task.started", "task.completed", after=first.id, task_id=task.id)
    assert [type(event) for event in page.items] == [TaskStarted, TaskCompleted]
    assert client.past_events(after=page.next_cursor, limit=1).items == []


def test_what_a_stream_says(connect: Connect) -> None:
    """Gaps and events of unknown types are events, answers to frames are not; fields are kept."""
    reply = {"type": "subscription.updated", "timestamp": AT, "data": {"events": []}}
    news = {"type": "moon.rose", "timestamp": AT, "data": {"phase": "full"}, "id": "e-2"}
    visit = Visit((reply, GAP, completed(1), news))
    with followed(connect, visit) as (server, client), client.events() as stream:
        gap, event, unknown = (stream.receive(timeout=30) for _ in range(3))
        assert stream.cursor == "e-2"
    assert isinstance(gap, EventsMissed)
    assert (gap.data.missed, gap.data.reason) == (3, "vanished")
    assert isinstance(event, TaskCompleted)
    assert event.data["scent"] == "roses"
    assert isinstance(unknown, UnknownEvent)
    assert (unknown.type_, unknown.data["phase"], unknown.id) == ("moon.rose", "full", "e-2")
    assert server.queries == [{"since": "start-0"}]


def test_it_comes_back_where_it_was(connect: Connect) -> None:
    """Whatever the reason is; between two attempts it waits, and a 503 is one of them."""
    visits = (
        Visit((completed(1), GAP), close_code=1001),
        Answer(503, {"message": "full"}, {"Retry-After": "0"}),
        Visit(close_code=1011),
        Visit((completed(2),)),
    )
    with (
        followed(connect, *visits) as (server, client),
        client.events("task.completed", task_id=TASK["id"]) as stream,
    ):
        types = [type(stream.receive(timeout=30)) for _ in range(3)]
    assert types == [TaskCompleted, EventsMissed, TaskCompleted]
    chosen = {"events": "task.completed", "task_id": TASK["id"]}
    since = ["start-0", "e-1", "e-1", "e-1"]
    assert server.queries == [{**chosen, "since": place} for place in since]


def test_a_stream_that_is_refused(connect: Connect) -> None:
    """A refusal that does not pass is raised at once, also in the middle of a stream."""
    refusal = Answer(401, {"message": "the key is revoked"}, {"X-Request-ID": "r1"})
    with (
        followed(connect, Visit((completed(1),), close_code=1008), refusal) as (server, client),
        client.events() as stream,
    ):
        assert isinstance(next(stream), TaskCompleted)
        with pytest.raises(AuthenticationError, match="the key is revoked") as caught:
            next(stream)
    assert caught.value.request_id == "r1"
    assert len(server.queries) == 2


@pytest.mark.parametrize("answer", ["<html>", {"message": "full"}])
def test_it_gives_up(connect: Connect, answer: object) -> None:
    """After so many seconds, with what the server said last."""
    visits = (Visit((completed(1),), close_code=1001), Answer(503, answer))
    with (
        followed(connect, *visits) as (server, client),
        client.events(reconnect_seconds=0.1) as stream,
    ):
        next(stream)
        with pytest.raises(UnavailableError):
            next(stream)
    assert len(server.queries) > 1 + FAST.attempts


def test_a_server_that_was_never_there(connect: Connect) -> None:
    """It is asked as often as for anything else, not for minutes."""
    with (
        followed(connect, Answer(503, {})) as (server, client),
        pytest.raises(UnavailableError),
        client.events(since="e-1"),
    ):
        pass
    assert len(server.queries) == FAST.attempts
    with connect(server.url, retry=FAST) as client:
        with pytest.raises(UnreachableError) as caught, client.events():
            pass
        assert caught.value.attempts == FAST.attempts
        with pytest.raises(UnreachableError, match="no stream"), client.events(since="e-1"):
            pass


def test_a_server_that_ends_every_connection(connect: Connect) -> None:
    """A connection that brings nothing is a failure, not a new beginning."""
    with (
        followed(connect, Visit(close_code=1011)) as (server, client),
        client.events(reconnect_seconds=0.05) as stream,
        pytest.raises(UnreachableError),
    ):
        next(stream)
    assert len(server.queries) > 2


@pytest.mark.parametrize("frame", ["no json", "[]", "{}", '{"type": "task.completed"}'])
def test_a_frame_that_makes_no_sense(connect: Connect, frame: str) -> None:
    """Something else than our server is there: that is said."""
    with (
        followed(connect, Visit((frame,))) as (_server, client),
        client.events() as stream,
        pytest.raises(UnexpectedAnswerError),
    ):
        next(stream)


def test_a_closed_stream_ends(connect: Connect) -> None:
    """Whoever closes it; the one who reads is not left waiting."""
    with followed(connect, Visit((completed(1),))) as (_server, client):
        stream = client.events()
        threading.Timer(0.1, stream.close).start()
        assert [type(event) for event in stream] == [TaskCompleted]
        with pytest.raises(ValueError, match="the stream is closed"):
            stream.receive()


def test_a_receive_has_an_end(connect: Connect) -> None:
    """A timeout costs nothing: the stream goes on."""
    with followed(connect, Visit()) as (server, client), client.events() as stream:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                stream.receive(timeout=0.05)
    assert len(server.queries) == 1


def test_a_receive_has_an_end_while_the_server_is_away(connect: Connect) -> None:
    """However long the stream would go on to try."""
    visits = (Visit((completed(1),), close_code=1001), Answer(503, {}, {"Retry-After": "30"}))
    with followed(connect, *visits) as (_, client), client.events() as stream:
        stream.receive(timeout=30)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            stream.receive(timeout=0.2)
        assert 0.2 <= time.monotonic() - started < 10


def test_waiting_by_events(connect: Connect) -> None:
    """When the server has no room for one who waits, the task's own events tell its end."""
    answers = (Answer(body=TASK), Answer(body=TASK), Answer(body=COMPLETED))
    with followed(connect, Visit((completed(1),)), tasks=answers) as (server, client):
        started = time.monotonic()
        assert client.result(TASK["id"], timeout=30) == 7
    assert time.monotonic() - started < 10
    assert server.queries[0]["task_id"] == TASK["id"]
    assert "task.dead_letter" in server.queries[0]["events"].split(",")


@pytest.mark.parametrize("refusal", [Answer(503, {}), Answer(403, {}), Visit(close_code=1011)])
def test_waiting_by_asking(connect: Connect, refusal: Visit | Answer) -> None:
    """When there are no events either, the task is looked at again and again."""
    answers = (*[Answer(body=TASK)] * 4, Answer(503, {}), Answer(503, {}), Answer(body=COMPLETED))
    with followed(connect, refusal, tasks=answers) as (server, client):
        assert client.wait(TASK["id"], timeout=30).state == TaskState.COMPLETED
    assert len(server.queries) == 1


def test_waiting_for_a_server_that_stays_away(connect: Connect) -> None:
    """The rest of the time is given to it, not more."""
    with followed(connect, Visit(), tasks=(Answer(503, {"message": "away"}),)) as (_server, client):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="away"):
            client.wait(TASK["id"], timeout=0.3)
    assert 0.3 <= time.monotonic() - started < 10


def test_nothing_is_left_open(service: LiveService, connect: Connect) -> None:
    """A stream that was only asked for has not connected; closing twice is closing once."""
    with connect(service.url, api_key=API_KEY) as client:
        stream = client.events()
        stream.close()
        stream.close()
        assert list(stream) == []
