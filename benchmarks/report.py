"""Figures with their units: collected, printed as tables, written as JSON."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value; ``samples`` are its repeats, ``value`` their median."""

    table: str
    row: str
    column: str
    unit: str
    samples: Sequence[float]

    @property
    def value(self) -> float:
        """Return the median of the repeats."""
        return statistics.median(self.samples)

    def show(self) -> str:
        """Return the median, and with repeats the lowest and the highest value."""
        if len(self.samples) == 1:
            return _number(self.value)
        low, high = _number(min(self.samples)), _number(max(self.samples))
        return f"{_number(self.value)} [{low}..{high}]"


class Report:
    """The figures of a run, in their order."""

    def __init__(self, machine: Mapping[str, str]) -> None:
        self._machine = machine
        self._started = time.monotonic()
        self.figures: list[Figure] = []
        #: What was promised and not kept, a sentence each.
        self.violations: list[str] = []

    def progress(self, text: str) -> None:
        """Tell a person what is being measured now; on stderr, beside the tables."""
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def add(self, table: str, row: str, values: Mapping[tuple[str, str], Sequence[float]]) -> None:
        """Take a row of a table: (column, unit) -> the repeats of its value."""
        for (column, unit), samples in values.items():
            figure = Figure(table=table, row=row, column=column, unit=unit, samples=samples)
            self.figures.append(figure)

    def limit(self, what: str, value: float, most: float, unit: str) -> None:
        """Note a violation where a figure is beyond what is promised."""
        if value > most:
            self.violations.append(f"{what}: {value:.1f} {unit}, at most {most:g} are allowed")

    def find(self, row: str, column: str) -> float | None:
        """Return the value of a figure, ``None`` when it was not measured."""
        found = (one.value for one in self.figures if (one.row, one.column) == (row, column))
        return next(found, None)

    def show(self) -> None:
        """Print the machine and the tables."""
        for name, text in self._machine.items():
            print(f"{name:<18} {text}")
        for table in dict.fromkeys(figure.table for figure in self.figures):
            print(f"\n{table}")
            for line in _lines([one for one in self.figures if one.table == table]):
                print(f"  {line}")

    def write(self, path: Path) -> None:
        """Write everything as JSON; a value that is not known is null."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for figure in self.figures:
            samples = [None if math.isnan(sample) else sample for sample in figure.samples]
            value = None if math.isnan(figure.value) else figure.value
            rows.append({**asdict(figure), "samples": samples, "value": value})
        content = {"machine": dict(self._machine), "figures": rows}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _lines(figures: Sequence[Figure]) -> list[str]:
    """Lay one table out: a line of columns, a line of their units, a line for each row."""
    columns = dict.fromkeys((figure.column, figure.unit) for figure in figures)
    cells = {(figure.row, figure.column): figure.show() for figure in figures}
    rows = list(dict.fromkeys(figure.row for figure in figures))
    grid = [["", *(name for name, _ in columns)], ["", *(unit for _, unit in columns)]]
    grid += [[row, *(cells.get((row, name), "") for name, _ in columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return [
        "   ".join(map(str.rjust, [line[0].ljust(widths[0]), *line[1:]], widths)) for line in grid
    ]


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
