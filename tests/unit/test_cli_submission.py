"""From the flags of ``taskqueue submit`` to a request body."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from taskqueue_core.cli.submission import (
    encode,
    parse_metadata,
    parse_priority,
    read_payload,
    scheduled_at,
)
from taskqueue_core.models import Priority


def test_priorities_are_those_of_the_model() -> None:
    """Every priority has its name and its number, in any case of letters."""
    for priority in Priority:
        assert parse_priority(priority.name) == priority
        assert parse_priority(priority.name.lower()) == priority
        assert parse_priority(str(priority.value)) == priority


@pytest.mark.parametrize("text", ["", "4", "-1", "urgent", "1.0", "01"])
def test_other_priorities_are_refused(text: str) -> None:
    """The message names what there is."""
    with pytest.raises(typer.BadParameter, match=r"low, normal, high, critical or 0\.\.3"):
        parse_priority(text)


def test_metadata() -> None:
    """A value may hold anything, the equals sign too; nothing given is nothing sent."""
    assert parse_metadata(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert parse_metadata([]) is None


@pytest.mark.parametrize(
    ("pairs", "message"), [(["a"], "should be KEY=VALUE"), (["a=1", "a=2"], "is there twice")]
)
def test_metadata_that_is_none(pairs: list[str], message: str) -> None:
    """A pair without a value, or a key that is given again, is refused."""
    with pytest.raises(typer.BadParameter, match=message):
        parse_metadata(pairs)


def test_times() -> None:
    """A time is the server's to read, a delay counts from now."""
    assert scheduled_at(None, None) is None
    assert scheduled_at("whenever", None) == "whenever"
    before = datetime.now(UTC)
    found = datetime.fromisoformat(scheduled_at(None, "1h30m") or "")
    late = found - before - timedelta(minutes=90)
    assert timedelta(milliseconds=-1) <= late < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("at", "delay", "message"),
    [
        ("2030-01-01T00:00:00Z", "1h", "not both"),
        (None, "soon", "should be a duration"),
        (None, "-1s", "should be a duration"),
        (None, "1e999", "too far away"),
    ],
)
def test_times_that_are_none(at: str | None, delay: str, message: str) -> None:
    """What is no delay, or two times at once, is refused."""
    with pytest.raises(typer.BadParameter, match=message):
        scheduled_at(at, delay)


def test_sources_of_a_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the flag's text, a file's, standard input's, or an empty object."""
    path = tmp_path / "payload.json"
    path.write_text('{"from": "file ä"}', encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"from": "stdin"}')))
    assert read_payload('{"from": 1}') == '{"from": 1}'
    assert read_payload(f"@{path}") == '{"from": "file ä"}'
    assert read_payload("-") == '{"from": "stdin"}'
    assert read_payload(None) == "{}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("[1]", "should be a JSON object"),
        ("{'a': 1}", "no JSON: Expecting property name"),
        ('{} , "type": "other"', "no JSON: Extra data"),
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("@/nowhere/payload.json", "/nowhere/payload.json cannot be read: No such file"),
    ],
)
def test_payload_that_is_none(source: str, message: str) -> None:
    """What is no JSON object never leaves this machine."""
    with pytest.raises(typer.BadParameter, match=message):
        read_payload(source)


def test_body_keeps_the_payload_as_it_was_written() -> None:
    """Numbers that would not survive a rewrite are sent as they are; what is not given is not."""
    payload = '{"n": 123456789012345678901234567890.10, "é": 1e400}'
    body = encode({"type": "echo", "priority": 0, "queue": None}, payload)
    assert body == f'{{"type": "echo", "priority": 0, "payload": {payload}}}'.encode()
    assert json.loads(encode({"type": "echo"}, "{}")) == {"type": "echo", "payload": {}}
