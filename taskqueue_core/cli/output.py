"""What commands print: tasks as JSON, tables, and messages about what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import typer

#: The command was understood but did not succeed.
EXIT_FAILED: Final = 1
#: The command line or the settings are wrong; nothing was done.
EXIT_REFUSED: Final = 2
#: The task has not ended (yet).
EXIT_UNFINISHED: Final = 4


def printable(text: str) -> str:
    """Escape what could steer a terminal; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )


def warn(message: str) -> None:
    """Print a message to the person who runs the command, on stderr."""
    typer.echo(f"taskqueue: {printable(message)}", err=True)


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """End the command with a message on stderr."""
    warn(message)
    raise typer.Exit(code)


def print_json(value: object) -> None:
    """Print a value: indented and readable on a terminal, one line of ASCII elsewhere."""
    if not sys.stdout.isatty():
        typer.echo(json.dumps(value))
        return
    is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    typer.echo(printable(json.dumps(value, indent=2, ensure_ascii=not is_utf8)))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their header in columns as wide as their longest cell."""
    lines = [list(header), *([printable(" ".join(cell.split())) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
