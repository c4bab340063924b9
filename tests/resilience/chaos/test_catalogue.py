"""What is promised names the tests that show it: in the catalogue of faults and in the README."""

from __future__ import annotations

from pathlib import Path

from promises import check_tests

FOLDER = Path(__file__).parents[1]
TESTS = FOLDER.parent
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
        check_tests(fault, tests, FOLDER)


def test_every_promise_of_the_readme_names_its_test() -> None:
    """And what is not promised does so, too."""
    text = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    section = text.partition("## What is promised, and what is not")[2].partition("\n## ")[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    promises = [row for row in found if row[1].strip() not in ("test", "---")]
    assert len(promises) > 10
    for sentence, tests in promises:
        check_tests(sentence, tests, TESTS)
