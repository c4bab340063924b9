"""The id of a request: on its answer, on every line that is logged in it, on no other line."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from taskqueue_core.broker import Broker
from taskqueue_core.logs import configure_logging
from taskqueue_core.settings import ServerSettings, Settings
from taskqueue_server.guards import Guards
from taskqueue_server.messages import Receive, Response, Scope, Send, send_response
from taskqueue_server.origins import Origins

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, own_logging: None) -> io.StringIO:
    """Return what the process logs, at the level ``info``."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info")
    return stream


def lines(stream: io.StringIO, **values: str) -> list[dict[str, Any]]:
    """Return the lines that have these values."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if values.items() <= line.items()]


async def _talk(scope: Scope, receive: Receive, send: Send) -> None:
    logging.getLogger("some.library").warning("inside")
    await send_response(send, Response(body=b"{}"))


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("abc-DEF_1.2", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ('"},{', False),
        ("", False),
    ],
)
async def test_lines_within_a_request_carry_its_id(
    log: io.StringIO, given: str, *, is_taken: bool
) -> None:
    """It is the one that was sent, if it is harmless, and the one that the answer has."""
    guards = Guards(_talk, lambda *_: None, Origins())
    transport = httpx.ASGITransport(app=guards)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/", headers={"x-request-id": given})
    logging.getLogger("some.library").warning("outside")
    [line] = lines(log, event="inside")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["request_id"] == given) == is_taken
    assert is_taken or re.fullmatch("[0-9a-f]{16}", line["request_id"])
    [line] = lines(log, event="outside")
    assert "request_id" not in line


async def test_calls_that_many_share_are_not_one_request_s(
    log: io.StringIO, serving: Serving, settings: Settings, broker: Broker
) -> None:
    """What is logged where the broker is called names no request: it may be the work of many."""
    async with serving(settings) as client:
        seen: list[object] = []
        app: Any = client._transport
        own: Broker = app.app._broker
        call = own._intake._singles[0]._call

        async def spoken(items: Any) -> Any:
            logging.getLogger("some.library").warning("shared")
            seen.append(items)
            return await call(items)

        own._intake._singles[0]._call = spoken
        await client.post("/api/v1/tasks", json={"type": "echo"})
    assert seen
    [line] = lines(log, event="shared")
    assert "request_id" not in line


async def test_the_access_log_has_a_line_for_every_answer(
    log: io.StringIO, serving: Serving, settings: Settings, broker: Broker
) -> None:
    """It is asked for; it shows no query, where a token may be, and no line of its own making."""
    talkative = settings.model_copy(update={"server": ServerSettings(access_log=True)})
    async with serving(talkative) as client:
        answer = await client.get("/api/v1/tasks?token=hush")
        await client.get("/a%0A%7B%22event%22:1%7D")
    first, second = lines(log, logger="taskqueue.access")
    assert first.pop("timestamp")
    assert 0 < first.pop("seconds") < 60
    assert first == {
        "event": "answered",
        "level": "info",
        "logger": "taskqueue.access",
        "method": "GET",
        "path": "/api/v1/tasks",
        "request_id": answer.headers["x-request-id"],
        "status": answer.status_code,
    }
    assert (second["path"], second["status"]) == ('/a\n{"event":1}', 404)
    assert "hush" not in log.getvalue()


async def test_without_being_asked_nothing_is_logged_for_an_answer(
    log: io.StringIO, client: httpx.AsyncClient
) -> None:
    """Log lines cost more than most answers."""
    await client.get("/health")
    assert lines(log, logger="taskqueue.access") == []
