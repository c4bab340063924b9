"""The catalogue of faults names tests that exist, at least one for each row that is promised."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1]
ROWS = {*range(1, 21), *range(23, 29), *range(30, 33), *range(35, 41)}


def rows() -> list[tuple[str, str, str]]:
    """Return number, fault and tests of each row."""
    text = (FOLDER / "CATALOGUE.md").read_text(encoding="utf-8")
    found = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [(number.strip(), fault.strip(), tests) for number, fault, tests in found[2:]]


def test_every_promised_row_is_there() -> None:
    """None was forgotten, none is twice."""
    numbers = [int(number) for number, _, _ in rows() if number]
    assert set(numbers) >= ROWS
    assert len(numbers) == len(set(numbers))


def test_every_named_test_exists() -> None:
    """Each row has one, in the file that it names."""
    for _, fault, tests in rows():
        named = re.findall(r"`([\w./]+)::(\w+)`", tests)
        assert named, fault
        for file, name in named:
            text = (FOLDER / file).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"
