"""Everything that the Python client does, against a live service: the same for both facades."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from blocking_facade import Connect
from live_service import API_KEY, LiveService, eventually, make_token

from taskqueue_client import (
    AuthenticationError,
    ConflictError,
    IdempotencyError,
    InvalidRequestError,
    NewTask,
    NotFoundError,
    PermissionDeniedError,
    Priority,
    TaskFailedError,
    TaskQueueClient,
    TaskState,
    WaitTimeoutError,
)

NOBODY = "01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00"


def an_hour() -> datetime:
    """Return a time that does not come during a test."""
    return datetime.now(UTC) + timedelta(hours=1)


def test_a_task_runs_and_keeps_its_result(client: TaskQueueClient) -> None:
    """What is submitted comes back whole; what has no value is None."""
    payload = {"text": "ü", "number": 2**70, "nothing": None, "list": [1, {"a": []}]}
    task = client.submit_task(
        "echo", payload, priority="high", max_retries=5, timeout=60, metadata={"user": "7"}
    )
    assert (task.type_, task.priority, task.queue) == ("echo", Priority.HIGH, "default")
    assert (task.max_retries, task.timeout, task.metadata) == (5, 60, {"user": "7"})
    assert (task.error, task.worker_id, task.scheduled_at) == (None, None, None)
    assert client.result(task.id)["echoed"] == payload
    done = client.get_task(task.id)
    assert (done.state, done.payload, done.attempts) == (TaskState.COMPLETED, payload, 1)
    assert done.completed_at is not None
    assert done.completed_at.tzinfo is not None


@pytest.mark.parametrize("priority", ["critical", Priority.CRITICAL, 3])
def test_a_priority_is_a_name_or_a_number(
    client: TaskQueueClient, priority: Priority | str | int
) -> None:
    """All ways to say it mean the same."""
    task = client.submit_task("echo", priority=priority, scheduled_at=an_hour())
    assert task.priority == Priority.CRITICAL
    client.cancel_task(task.id)


def test_what_the_client_refuses_by_itself(client: TaskQueueClient) -> None:
    """A time without a zone, an unknown priority and a key that is none never leave it."""
    with pytest.raises(ValueError, match="scheduled_at: a time needs a zone"):
        client.submit_task("echo", scheduled_at=datetime.now())  # noqa: DTZ005 -- the mistake
    with pytest.raises(ValueError, match="'urgent' is none of low, normal, high, critical"):
        client.submit_task("echo", priority="urgent")
    for key in (" ", "two words", "schlüssel", "k" * 256):
        with pytest.raises(ValueError, match="idempotency_key: 1 to 255 visible ASCII"):
            client.submit_task("echo", idempotency_key=key)


def test_a_key_names_a_submission(client: TaskQueueClient) -> None:
    """The same again is the same task, something else is refused."""
    key = f"order-{time.time_ns()}"
    task = client.submit_task("echo", {"order": 1}, idempotency_key=key)
    assert client.submit_task("echo", {"order": 1}, idempotency_key=key).id == task.id
    with pytest.raises(IdempotencyError) as caught:
        client.submit_task("echo", {"order": 2}, idempotency_key=key)
    assert caught.value.kind == "urn:taskqueue:problem:idempotency-mismatch"


def test_a_batch(client: TaskQueueClient) -> None:
    """Each task has an item, in their order, whether it is accepted or refused."""
    too_late = datetime.now(UTC) + timedelta(days=800)
    tasks = [
        NewTask(type="echo", payload={"number": 1}),
        NewTask(type="echo", scheduled_at=too_late),
        NewTask(type="echo", payload={"number": 2}, priority="low"),
    ]
    batch = client.submit_batch(tasks)
    assert [item.status for item in batch.items] == [201, 400, 201]
    assert (batch.accepted_count, batch.refused_count) == (2, 1)
    assert batch.items[1].task is None
    assert batch.items[1].field == "scheduled_at"
    last = batch.items[2].task
    assert last is not None
    assert client.result(last.id)["echoed"] == {"number": 2}


def test_waiting_has_an_end(client: TaskQueueClient) -> None:
    """The error has the task as it was last seen; a wait is never much longer than was said."""
    task = client.submit_task("echo", scheduled_at=an_hour())
    started = time.monotonic()
    with pytest.raises(WaitTimeoutError) as caught:
        client.wait(task.id, timeout=0.3)
    assert 0.3 <= time.monotonic() - started < 5
    assert caught.value.task.state == TaskState.SCHEDULED
    client.cancel_task(task.id)


def test_no_result(client: TaskQueueClient) -> None:
    """A task that ends without one raises, and says why; its attempts can be looked at."""
    task = client.submit_task("fail", {"message": "no luck"}, max_retries=0)
    with pytest.raises(TaskFailedError, match=f"task {task.id} is dead_letter: no luck") as caught:
        client.result(task.id)
    assert caught.value.task.state == TaskState.DEAD_LETTER
    (attempt,) = client.list_attempts(task.id)
    assert (attempt.attempt, attempt.error) == (1, "no luck")
    client.retry_task(task.id)
    assert client.wait(task.id).deliveries == 2


def test_cancelling(client: TaskQueueClient) -> None:
    """What waits is cancelled at once, what runs when that is asked for, what has ended never."""
    task = client.submit_task("echo", scheduled_at=an_hour())
    assert client.cancel_task(task.id).state == TaskState.CANCELLED
    with pytest.raises(ConflictError):
        client.cancel_task(task.id)
    running = client.submit_task("sleep", {"duration_seconds": 60})
    eventually(lambda: client.get_task(running.id).state == TaskState.RUNNING, "it does not run")
    with pytest.raises(ConflictError):
        client.cancel_task(running.id)
    asked = client.cancel_task(running.id, running=True)
    assert asked.cancel_requested or asked.state == TaskState.CANCELLED
    assert client.wait(running.id).state == TaskState.CANCELLED


def test_tasks_are_found_page_by_page(client: TaskQueueClient) -> None:
    """An iterator goes over all pages, and can be left."""
    mark = str(time.time_ns())
    tasks = [NewTask(type="echo", scheduled_at=an_hour(), metadata={"m": mark}) for _ in range(120)]
    submitted = {item.task.id for item in client.submit_batch(tasks).items if item.task}
    found = [task.id for task in client.list_tasks(state="scheduled", metadata=("m", mark))]
    assert (len(found), set(found)) == (120, submitted)
    assert next(iter(client.list_tasks(type="echo", metadata=("m", mark)))).id in submitted
    assert list(client.list_tasks(priority="low", metadata=("m", mark))) == []
    assert list(client.list_tasks(created_before=an_hour() - timedelta(days=9))) == []
    for task_id in found:
        client.cancel_task(task_id)


def test_queues(client: TaskQueueClient) -> None:
    """A paused priority keeps its tasks; a purge cancels them and counts."""
    client.queues.pause("low")
    try:
        task = client.submit_task("echo", priority="low")
        depth = client.queues.stats().queues.low
        assert (depth.queued, depth.paused) == (1, True)
        assert client.queues.purge(Priority.LOW) == 1
        assert client.get_task(task.id).state == TaskState.CANCELLED
    finally:
        client.queues.resume("low")
    assert not client.queues.stats().queues.low.paused


def test_workers(client: TaskQueueClient) -> None:
    """They are listed, looked at, paused and resumed."""
    (worker,) = client.workers.list()
    client.workers.pause(worker.id)
    try:
        assert client.workers.get(worker.id).state == "paused"
    finally:
        client.workers.resume(worker.id)
    detail = client.workers.get(worker.id)
    assert "echo" in {handler.type_ for handler in detail.handlers}
    assert "echo" in {one.type_ for one in client.list_task_types()}
    assert client.health().checks.workers is not None
    with pytest.raises(NotFoundError):
        client.workers.get("nobody")


def test_dead_letters(client: TaskQueueClient) -> None:
    """They are listed, counted by what they died of, replayed by filter and given up."""
    mark = f"mark {time.time_ns()}"
    tasks = [client.submit_task("fail", {"message": mark}, max_retries=0) for _ in range(2)]
    for task in tasks:
        client.wait(task.id)
    assert {entry.task_id for entry in client.dlq.list(error=mark)} == {task.id for task in tasks}
    (group,) = client.dlq.groups(error=mark)
    assert (group.count, group.task_type, group.error) == (2, "fail", mark)
    assert client.dlq.retry_all(error=mark, dry_run=True).matched_count == 2
    client.dlq.retry(tasks[0].id, payload={"message": "another"})
    eventually(lambda: client.get_task(tasks[0].id).error == "another", "it does not run again")
    assert client.dlq.retry_all(error=mark).retried_count == 1
    eventually(lambda: client.get_task(tasks[1].id).deliveries == 2, "it does not run again")
    client.wait(tasks[1].id)
    assert client.dlq.clear() >= 2
    assert client.get_task(tasks[0].id).state == TaskState.FAILED
    assert client.dlq.retry_all().retried_count == 0


def test_errors_say_what_happened(client: TaskQueueClient) -> None:
    """Each kind of refusal is a class, with all that the server says."""
    with pytest.raises(NotFoundError) as missing:
        client.get_task(NOBODY)
    assert (missing.value.status, missing.value.error) == (404, "Not Found")
    assert NOBODY in missing.value.message
    assert missing.value.request_id
    assert missing.value.request_id in str(missing.value)
    with pytest.raises(InvalidRequestError) as invalid:
        client.submit_task("echo", timeout=0)
    assert (invalid.value.status, invalid.value.field) == (400, "timeout")


def test_credentials(connect: Connect, service: LiveService) -> None:
    """A key, a token, what makes tokens; wrong ones are refused, also by a stream of events."""
    made: list[str] = []

    def token() -> str:
        made.append(make_token(scope="tasks:read tasks:write"))
        return made[-1]

    with connect(service.url, token=token) as client:
        task = client.submit_task("echo")
        assert client.wait(task.id).state == TaskState.COMPLETED
        with client.events() as stream:
            assert stream.cursor
        assert len(made) >= 4
        with pytest.raises(PermissionDeniedError):
            client.workers.list()
    with connect(service.url, token=make_token()) as client, pytest.raises(PermissionDeniedError):
        client.get_task(NOBODY)
    with connect(service.url, api_key="wrong") as client:
        with pytest.raises(AuthenticationError):
            client.get_task(NOBODY)
        with pytest.raises(AuthenticationError), client.events(since="0"):
            pass


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "127.0.0.1:8080"},
        {"url": "ftp://127.0.0.1"},
        {"url": "http://127.0.0.1:port"},
        {"api_key": "a\nb"},
        {"api_key": API_KEY, "token": "both"},
    ],
)
def test_what_is_no_connection(connect: Connect, wrong: dict[str, str]) -> None:
    """A mistake shows when the client is made, not when it is used."""
    with pytest.raises(ValueError, match=r"URL|no key has|not both"):
        connect(**wrong)
