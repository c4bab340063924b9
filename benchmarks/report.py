"""Figures with their units: collected, printed as a table, written as JSON."""

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

    group: str
    name: str
    unit: str
    samples: Sequence[float]

    @property
    def value(self) -> float:
        """Return the median of the repeats."""
        return statistics.median(self.samples)


class Report:
    """The figures of a run, in their order."""

    def __init__(self, machine: Mapping[str, str]) -> None:
        self._machine = machine
        self._started = time.monotonic()
        self.figures: list[Figure] = []

    def progress(self, text: str) -> None:
        """Tell a person what is being measured now; on stderr, beside the table."""
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def add(self, group: str, name: str, unit: str, samples: Sequence[float]) -> None:
        """Take a figure."""
        self.figures.append(Figure(group=group, name=name, unit=unit, samples=samples))

    def find(self, name: str) -> float | None:
        """Return the value of a figure, ``None`` when it was not measured."""
        return next((figure.value for figure in self.figures if figure.name == name), None)

    def show(self) -> None:
        """Print the machine and the table."""
        for name, text in self._machine.items():
            print(f"{name:<18} {text}")
        group = ""
        for figure in self.figures:
            if figure.group != group:
                group = figure.group
                print(f"\n{group}")
            low, high = _number(min(figure.samples)), _number(max(figure.samples))
            spread = f"  ({low} to {high})" if len(figure.samples) > 1 else ""
            print(f"  {figure.name:<46} {_number(figure.value):>10} {figure.unit}{spread}")

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


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
