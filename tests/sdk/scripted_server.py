"""A server that answers as it is told, for what a real one does at bad times only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

TASK: Final[dict[str, Any]] = {
    "id": "01980f6e-5c1a-7c3e-9a51-0c8f6a2d4e00",
    "type": "echo",
    "queue": "default",
    "payload": {},
    "priority": "normal",
    "state": "running",
    "attempts": 0,
    "deliveries": 1,
    "max_retries": 3,
    "timeout": 300,
    "created_at": "2026-01-15T12:00:00.000Z",
    "updated_at": "2026-01-15T12:00:00.000Z",
}
COMPLETED: Final = {**TASK, "state": "completed", "result": 7}


@dataclass(frozen=True)
class Answer:
    """What a request is answered with; without a status the connection is cut."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the body: text as it is, everything else as JSON."""
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


HANG_UP: Final = Answer(status=0)


@dataclass
class Scripted:
    """A running server: what it was asked, and what it still has to say."""

    url: str
    answers: list[Answer]
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted_http(*answers: Answer) -> Iterator[Scripted]:
    """Yield a server that gives these answers in turn."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.requests.append((self.command, self.path, headers, body))
            answer = script.answers.pop(0)
            if answer is not HANG_UP:
                content = answer.text().encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 -- the names that the class looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = Scripted(f"http://127.0.0.1:{server.server_port}", list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Visit:
    """A server of events; ``visits`` are what WebSockets get in turn, the last for good."""

    frames: tuple[object, ...] = ()
    close_code: int | None = None


@dataclass
class ScriptedEvents:
    """A server of events; ``visits`` are what WebSockets get in turn, the last for ever."""

    visits: list[Visit | Answer]
    tasks: list[Answer] = field(default_factory=list)
    url: str = ""
    queries: list[dict[str, str]] = field(default_factory=list)

    def next_visit(self) -> Visit | Answer:
        """Return what the next WebSocket gets."""
        return self.visits.pop(0) if len(self.visits) > 1 else self.visits[0]


@contextmanager
def scripted_events(
    *visits: Visit | Answer, tasks: tuple[Answer, ...] = ()
) -> Iterator[ScriptedEvents]:
    """Yield a server of events, which answers questions for a task with ``tasks`` in turn."""
    script = ScriptedEvents(list(visits), list(tasks))
    chosen = threading.local()

    def process(_: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path)
        if path.path == "/api/v1/events":
            return _response(Answer(body={"items": [], "next_cursor": "start-0"}))
        if path.path != "/ws":
            answers = script.tasks
            return _response(answers.pop(0) if len(answers) > 1 else answers[0])
        script.queries.append(dict(parse_qsl(path.query)))
        chosen.visit = script.next_visit()
        return _response(chosen.visit) if isinstance(chosen.visit, Answer) else None

    def handle(socket: ServerConnection) -> None:
        visit: Visit = chosen.visit
        for frame in visit.frames:
            socket.send(frame if isinstance(frame, str) else json.dumps(frame))
        if visit.close_code is not None:
            socket.close(visit.close_code)
        for _ in socket:
            pass

    with serve(handle, "127.0.0.1", 0, process_request=process, close_timeout=1) as server:
        script.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def _response(answer: Answer) -> Response:
    content = answer.text().encode()
    headers = Headers({"Content-Length": str(len(content)), **answer.headers})
    return Response(answer.status, "", headers, content)
