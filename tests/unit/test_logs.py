"""Log lines that machines and people can trust, and the brake on repeated ones."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from opentelemetry import trace

from taskqueue_core.logs import Throttle, configure_logging, subject

pytestmark = pytest.mark.usefixtures("own_logging")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info")
    return stream


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging("info")
    return terminal


def only_line(stream: io.StringIO) -> dict[str, Any]:
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    line: dict[str, Any] = json.loads(lines[0])
    return line


def test_a_line_is_one_json_object_with_time_level_and_values(stream: io.StringIO) -> None:
    structlog.get_logger("taskqueue.worker").info("task %s", "done", task_id="t-1", attempts=2)
    line = only_line(stream)
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "event": "task done",
        "level": "info",
        "logger": "taskqueue.worker",
        "task_id": "t-1",
        "attempts": 2,
    }


def test_bound_context_is_in_every_line(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(task_id="t-1"):
        logging.getLogger("some.library").warning("slow")
    line = only_line(stream)
    assert (line["task_id"], line["level"], line["event"]) == ("t-1", "warning", "slow")


def test_what_is_at_work_is_said_on_every_line(stream: io.StringIO) -> None:
    """It is asked for each line, and what the line says itself stands."""
    asked = []

    def describe() -> dict[str, object]:
        asked.append(1)
        return {"task_id": "t-1", "attempt": 2}

    token = subject.set(describe)
    try:
        logging.getLogger("some.library").warning("slow")
        structlog.get_logger("a").debug("not written")
        structlog.get_logger("a").info("odd", task_id="t-2")
    finally:
        subject.reset(token)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["task_id"], first["attempt"]) == ("t-1", 2)
    assert (second["task_id"], second["attempt"]) == ("t-2", 2)
    assert len(asked) == 2


def test_a_line_within_a_span_names_it(stream: io.StringIO) -> None:
    """Lines of libraries do, too; outside of any span there is nothing to name."""
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    structlog.get_logger("a").info("outside")
    with trace.use_span(trace.NonRecordingSpan(context)):
        logging.getLogger("some.library").warning("inside")
    outside, inside = map(json.loads, stream.getvalue().splitlines())
    assert "trace_id" not in outside
    assert inside["trace_id"] == f"{0xABC:032x}"
    assert inside["span_id"] == f"{0xDEF:016x}"


def test_addresses_of_requests_are_not_logged(stream: io.StringIO) -> None:
    """httpx would log each with its query, also those that handlers call."""
    logging.getLogger("httpx").info("HTTP Request: GET http://host/?token=hush")
    assert stream.getvalue() == ""


def test_lines_below_the_level_are_dropped(stream: io.StringIO) -> None:
    structlog.get_logger("a").debug("no")
    logging.getLogger("b").debug("no")
    assert stream.getvalue() == ""


def test_the_level_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info")
    configure_logging("ERROR")
    structlog.get_logger("a").warning("no")
    structlog.get_logger("a").error("yes")
    assert only_line(stream)["event"] == "yes"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        configure_logging("loud")


def test_control_characters_cannot_fake_a_line(stream: io.StringIO) -> None:
    text = 'a\n{"event": "fake"}\x1b[31m\x00\u2028\ud800'
    structlog.get_logger("a").info("odd", value=text)
    assert stream.getvalue().isascii()
    assert only_line(stream)["value"] == text


def fail(message: str) -> None:
    raise LookupError(message)


def circular() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**70, 2**70),
        ({1}, "{1}"),
        (b"\xff", "b'\\xff'"),
        ({"a": 1}, {"a": 1}),
        (float("nan"), "nan"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (circular(), "[[...]]"),
    ],
)
def test_any_value_can_be_logged(stream: io.StringIO, value: object, shown: object) -> None:
    structlog.get_logger("a").info("odd", value=value)
    line = only_line(stream)
    assert line["value"] == shown
    assert line["event"] == "odd"


def test_an_exception_is_part_of_its_line(stream: io.StringIO) -> None:
    try:
        fail("gone")
    except LookupError:
        structlog.get_logger("a").exception("failed")
    line = only_line(stream)
    assert line["event"] == "failed"
    assert line["exception"].endswith("LookupError: gone")


def test_a_terminal_gets_columns_without_control_characters(terminal: Terminal) -> None:
    structlog.get_logger("a").info("odd\x1b]0;title\x07\nfake", value="x\ry")
    text = terminal.getvalue()
    assert "odd\\x1b]0;title\\x07\\nfake" in text
    assert text.count("\n") == 1
    assert "\r" not in text
    assert "\x07" not in text


def test_a_terminal_shows_exceptions_without_local_variables(terminal: Terminal) -> None:
    def fail_beside_a_secret() -> None:
        password = "hush" * 2
        fail(f"{len(password)}\x07")

    try:
        fail_beside_a_secret()
    except LookupError:
        structlog.get_logger("a").exception("failed")
    text = terminal.getvalue()
    assert "LookupError: 8\\x07" in text
    assert "hushhush" not in text
    assert "\nLookupError: " in text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_gets_so_many_lines_a_minute() -> None:
    clock = Clock()
    throttle = Throttle(2, clock)
    assert [throttle.allow("a") for _ in range(4)] == [True, True, False, False]
    assert throttle.allow("b")
    clock.now = 59.9
    assert not throttle.allow("a")
    clock.now = 60.0
    assert [throttle.allow("a") for _ in range(3)] == [True, True, False]


def test_total_of_all_keys_holds_in_any_minute() -> None:
    """Not only in those that begin with a key's first line."""
    clock = Clock()
    throttle = Throttle(3, clock, total=4)
    assert [throttle.allow("a") for _ in range(3)] == [True, True, True]
    clock.now += 59
    assert [throttle.allow("b") for _ in range(2)] == [True, False]
    clock.now += 1
    assert [throttle.allow("a") for _ in range(4)] == [True, True, True, False]
    assert not throttle.allow("b")


def test_keys_are_forgotten_oldest_first() -> None:
    throttle = Throttle(1, Clock(), max_keys=2)
    assert throttle.allow("a")
    assert throttle.allow("b")
    assert not throttle.allow("a")
    assert throttle.allow("c")  # pushes out b, which was asked about longest ago
    assert not throttle.allow("a")
    assert throttle.allow("b")


def test_a_closed_stderr_is_replaced(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner of commands gives each its own stderr; threads may log after its end."""
    stream.close()
    present = io.StringIO()
    monkeypatch.setattr(sys, "stderr", present)
    structlog.get_logger("taskqueue").info("still here")
    assert only_line(present)["event"] == "still here"
