"""See a whole system at work: tasks that run now, run later, fail, and are replayed.

Starts ``taskqueue-server --dev`` on a free port with its data in a temporary directory, submits
tasks over HTTP, prints what ``/ws`` tells about them, and stops everything again. It exits with 0
only if everything went as it should. Run it with ``make demo``.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

#: Longest wait for anything that should happen, in seconds.
PATIENCE_SECONDS: Final = 30
#: The server's own time to stop is shorter.
STOP_SECONDS: Final = 45

Json = dict[str, Any]


class DemoError(Exception):
    """Raised when something did not go as it should; the message says what."""


class Printer:
    """Lines for a person: dim and bold on a terminal, plain text elsewhere."""

    def __init__(self) -> None:
        self._styled = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def title(self, text: str) -> None:
        """Begin a part of the tour."""
        print(f"\n{self._style('1', text)}", flush=True)

    def note(self, text: str) -> None:
        """Say something about what happens."""
        print(f"  {text}", flush=True)

    def event(self, event: Json) -> None:
        """Show an event as it arrives."""
        moment = event["timestamp"].partition("T")[2].rstrip("Z")
        line = f"{event['type']:<17} {describe(event['data'])}"
        print(f"  {self._style('2', moment)}  {line}", flush=True)

    def _style(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._styled else text


def describe(data: Json) -> str:
    """Return the parts of an event's data that a reader wants to see."""
    parts = [data["state"]]
    if data["state"] == "running":
        parts.append(f"attempt {data['attempts']}")
    if "duration_ms" in data:
        parts.append(f"after {data['duration_ms']} ms")
    if "next_retry_at" in data:
        parts.append(f"next attempt at {data['next_retry_at'].partition('T')[2].rstrip('Z')}")
    elif data["state"] == "scheduled":
        parts.append(f"due at {data['scheduled_at'].partition('T')[2].rstrip('Z')}")
    if data.get("error"):
        parts.append(f'"{data["error"]}"')
    return ", ".join(parts)


class Follower:
    """Prints the events of tasks as they arrive, and waits for the one that should come next."""

    def __init__(self, socket: ClientConnection, printer: Printer) -> None:
        self._printer = printer
        self._seen: list[Json] = []
        self._news = asyncio.Condition()
        self._is_over = False
        self._reading = asyncio.create_task(self._read(socket))

    @property
    def mark(self) -> int:
        """The place in the stream up to which events have arrived."""
        return len(self._seen)

    async def until(self, task_id: str, event_type: str, *, after: int = 0) -> Json:
        """Return the task's first event of this type behind the mark ``after``."""

        def found() -> Json | None:
            for event in self._seen[after:]:
                if event["type"] == event_type and event["data"]["task_id"] == task_id:
                    return event
            return None

        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._news:
                await self._news.wait_for(lambda: found() or self._is_over)
        except TimeoutError:
            pass
        if (event := found()) is None:
            raise DemoError(f"task {task_id} had no {event_type} event")
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                event = json.loads(frame)
                if event["type"].startswith("task."):
                    self._printer.event(event)
                    async with self._news:
                        self._seen.append(event)
                        self._news.notify_all()
        finally:
            async with self._news:
                self._is_over = True
                self._news.notify_all()


class Tour:
    """The parts of the tour, over the same HTTP interface that any client uses."""

    def __init__(self, http: httpx.AsyncClient, events: Follower, printer: Printer) -> None:
        self._http = http
        self._events = events
        self._printer = printer

    async def immediate(self) -> None:
        """Run a task at once."""
        self._printer.title("1. A task that runs at once")
        task = await self._submit({"type": "echo", "payload": {"message": "Hello, World!"}})
        await self._events.until(task["id"], "task.completed")
        task = await self._get(task["id"])
        _expect(task["result"]["echoed"] == {"message": "Hello, World!"}, "the echo came back")
        self._printer.note(f"result: {json.dumps(task['result'])}")

    async def scheduled(self) -> None:
        """Run a task two seconds later."""
        self._printer.title("2. A task for two seconds later")
        due = datetime.now(UTC) + timedelta(seconds=2)
        task = await self._submit(
            {
                "type": "echo",
                "payload": {"message": "right on time"},
                "scheduled_at": due.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
        )
        _expect(task["state"] == "scheduled", "the task waits for its time")
        await self._events.until(task["id"], "task.completed")
        task = await self._get(task["id"])
        late_ms = _milliseconds(task["scheduled_at"], task["started_at"])
        _expect(late_ms >= 0, "it did not start early")
        self._printer.note(f"result: {json.dumps(task['result'])}")
        self._printer.note(f"started {late_ms} ms after it was due")

    async def failing(self) -> str:
        """Let a task run out of retries; return its id."""
        self._printer.title("3. A task that fails, is retried once, and becomes a dead letter")
        payload = {"message": "the mail server said no"}
        task = await self._submit({"type": "fail", "payload": payload, "max_retries": 1})
        await self._events.until(task["id"], "task.retrying")
        await self._events.until(task["id"], "task.dead_letter")
        letters = await self._call("GET", "/admin/dlq")
        letter = next((one for one in letters["entries"] if one["task_id"] == task["id"]), None)
        if letter is None:
            raise DemoError(f"task {task['id']} is not among the dead letters")
        self._printer.note(
            f"dead letters: {letters['size']}; reason {letter['reason']}, "
            f'error "{letter["original_error"]}"'
        )
        return str(task["id"])

    async def replay(self, task_id: str) -> None:
        """Send the dead letter back to its queue and see it run again."""
        self._printer.title("4. The dead letter is replayed")
        mark = self._events.mark
        self._printer.note(f'POST /admin/dlq/retry {{"task_id": "{task_id}"}}')
        await self._call("POST", "/admin/dlq/retry", {"task_id": task_id})
        queued = await self._events.until(task_id, "task.queued", after=mark)
        _expect(queued["data"]["state"] == "pending", "the task is pending again")
        started = await self._events.until(task_id, "task.started", after=mark)
        _expect(started["data"]["attempts"] == 1, "its attempts start again at 1")
        await self._events.until(task_id, "task.dead_letter", after=mark)
        self._printer.note("pending and running again, with all its attempts; it failed as before")

    async def _submit(self, request: Json) -> Json:
        self._printer.note(f"POST /api/v1/tasks {json.dumps(request)}")
        return await self._call("POST", "/api/v1/tasks", request)

    async def _get(self, task_id: str) -> Json:
        return await self._call("GET", f"/api/v1/tasks/{task_id}")

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        response = await self._http.request(method, path, json=body)
        if response.is_error:
            raise DemoError(f"{method} {path} answered {response.status_code}: {response.text}")
        answer: Json = response.json()
        return answer


def _expect(is_so: bool, claim: str) -> None:  # noqa: FBT001 -- reads as "expect that ..."
    if not is_so:
        raise DemoError(f"this should be true and is not: {claim}")


def _milliseconds(start: str, end: str) -> int:
    between = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return round(between / timedelta(milliseconds=1))


@contextlib.asynccontextmanager
async def running_service(directory: str) -> AsyncIterator[str]:
    """Yield the URL of a service that keeps its data in ``directory``; it ends with the block.

    Raises:
        DemoError: it did not start; the message holds its last lines.
    """
    flags = ["--dev", "--port", "0", "--data-dir", str(Path(directory, "data"))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskqueue_server", *flags),
        cwd=directory,
        # Settings of the caller, which may name a Redis with real tasks, stay out of the demo.
        env={name: value for name, value in os.environ.items() if not _is_setting(name)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C is ours alone: we then stop the service, in order.
        start_new_session=True,
    )
    assert process.stderr is not None
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(_read_log(process.stderr, url))
    try:
        yield await url
    finally:
        code = await _stop(process)
        await reading
    if code:
        raise DemoError(f"the service ended with exit code {code}")


def _is_setting(name: str) -> bool:
    return name.upper().startswith("TASKQUEUE_")


async def _read_log(log: asyncio.StreamReader, url: asyncio.Future[str]) -> None:
    """Take the URL from the log, and the rest so that the service is never held up by it."""
    last_lines: collections.deque[str] = collections.deque(maxlen=10)
    async for line in log:
        last_lines.append(line.decode(errors="replace"))
        if not url.done() and b'"serving"' in line:
            url.set_result(json.loads(line)["url"])
    if not url.done():
        url.set_exception(DemoError("the service did not start:\n" + "".join(last_lines)))


async def _stop(process: asyncio.subprocess.Process) -> int:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            return await process.wait()
    except TimeoutError:
        process.kill()
        raise DemoError(f"the service did not stop within {STOP_SECONDS} s") from None


async def wait_for_worker(http: httpx.AsyncClient) -> str:
    """Return the id of the worker once it has registered."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        response = await http.get("/admin/workers")
        if response.is_success and (workers := response.json()["workers"]):
            return str(workers[0]["id"])
        await asyncio.sleep(0.05)
    raise DemoError(f"no worker registered within {PATIENCE_SECONDS} s")


async def show(printer: Printer, directory: str) -> None:
    """Give the whole tour."""
    started = time.monotonic()
    printer.title("taskqueue: a tour of ten seconds")
    printer.note("starting taskqueue-server --dev: API, worker and embedded broker")
    async with (
        running_service(directory) as url,
        # The first answer has to wait until the server has started.
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as http,
    ):
        worker_id = await wait_for_worker(http)
        printer.note(f"{url} is served, {worker_id} waits for tasks")
        address = url.replace("http", "ws", 1) + "/ws"
        async with connect(address) as socket, Follower(socket, printer) as events:
            tour = Tour(http, events, printer)
            await tour.immediate()
            await tour.scheduled()
            task_id = await tour.failing()
            await tour.replay(task_id)
        printer.title("Stopping everything")
    printer.note(f"done in {time.monotonic() - started:.1f} s, everything went as it should")


async def run(printer: Printer) -> None:
    """Give the tour; SIGTERM ends it as Ctrl-C does, with nothing left running."""
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    with tempfile.TemporaryDirectory(prefix="taskqueue-demo-") as directory:
        await show(printer, directory)


def main() -> int:
    """Run the demo and return its exit code."""
    try:
        asyncio.run(run(Printer()))
    except (httpx.HTTPError, WebSocketException) as error:
        print(f"\ndemo: the service did not answer: {error!r}", file=sys.stderr)
        return 1
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ndemo: interrupted; everything is stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
