"""Every threat has its row, and every row its tests."""

from __future__ import annotations

from pathlib import Path

from promises import check_tests, table_rows

FOLDER = Path(__file__).parent
#: What there is nothing to test of yet.
LATER = {"S13", "S15"}


def rows() -> list[list[str]]:
    """Return number, threat, promise and tests of each row."""
    return table_rows((FOLDER / "THREATS.md").read_text(encoding="utf-8"))


def test_every_threat_is_there() -> None:
    """None was forgotten, none is twice."""
    assert [row[0] for row in rows()] == [f"S{number}" for number in range(1, 25)]


def test_every_threat_names_its_tests() -> None:
    """They exist in the files that are named; a row without any says why, and is not forgotten."""
    for number, threat, promise, tests in rows():
        if number in LATER:
            assert (promise.startswith("none: "), tests) == (True, ""), threat
        else:
            check_tests(threat, tests, FOLDER)
