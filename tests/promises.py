"""Promises in documents, each of which names the tests that show it."""

from __future__ import annotations

import re
from pathlib import Path


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, without the heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return rows[2:]


def check_tests(promise: str, tests: str, folder: Path) -> None:
    """Fail unless there is a test for a promise, in the file that it names."""
    named = re.findall(r"`([\w./]+)::(\w+)`", tests)
    assert named, promise
    for file, name in named:
        text = (folder / file).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"
