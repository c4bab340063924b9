"""What commands print, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import sys

import pytest
import typer

from taskqueue_core.cli.output import fail, print_json, print_table, printable

VALUE = {"text": "grüße \x1b[2J\x9b\u202e", "n": 2**70}


class Terminal(io.TextIOWrapper):
    """A terminal of some encoding that keeps what is printed."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self) -> bool:
        """Say yes."""
        return True

    def text(self) -> str:
        """Return what was printed."""
        self.flush()
        self.seek(0)
        return self.read()


def test_json_for_programs_is_one_line_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever reads it needs no encoding and no state."""
    print_json(VALUE)
    out = capsys.readouterr().out
    assert (out.isascii(), out.count("\n"), json.loads(out)) == (True, 1, VALUE)


@pytest.mark.parametrize(("encoding", "word"), [("UTF-8", "grüße"), ("ascii", "gr\\u00fc\\u00dfe")])
def test_json_for_people(monkeypatch: pytest.MonkeyPatch, encoding: str, word: str) -> None:
    """It is indented and readable, still JSON, and nothing in it steers the terminal."""
    terminal = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    print_json(VALUE)
    out = terminal.text()
    assert out.startswith('{\n  "text": "' + word)
    assert json.loads(out) == VALUE
    assert out.replace("\n", "").isprintable()


def test_table_has_straight_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell is one line, whatever it holds; no row ends in blanks."""
    print_table(("NAME", "ERROR", "LAST"), [("a", "two\nlines \x1b", ""), ("longer", "", "z")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME    ERROR             LAST",
        "a       two lines \\u001b",
        "longer                    z",
    ]


def test_lines_stay_lines() -> None:
    """A message of several lines stays readable."""
    assert printable("one\ntwo\x07ü") == "one\ntwo\\u0007ü"


def test_failure_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays clean for programs."""
    with pytest.raises(typer.Exit) as caught:
        fail("no\x1b", 4)
    assert caught.value.exit_code == 4
    assert capsys.readouterr() == ("", "taskqueue: no\\u001b\n")
