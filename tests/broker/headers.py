"""Reading the header comment of a Lua script."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from taskqueue_core.broker.scripts import PARTS, source

#: The sections of a header in their order; KEYS and ARGV may take several lines.
SECTIONS: Final = ("KEYS", "ARGV", "Returns", "Transitions", "Emits", "Flags")

_SECTION = re.compile(rf"({'|'.join(SECTIONS)})(?:\[|: )")
_KEY = re.compile(r"KEYS\[(\d+)( \.\.\.)?\] <P>\S+")
_ARGUMENT = re.compile(r"\[(\d+)( \.\.\.)?\] [^\[]+")


@dataclass
class Header:
    """A script's header: its sentence, then each section's text, continued lines joined."""

    sentence: str
    sections: list[tuple[str, str]] = field(default_factory=list)

    def text(self, section: str) -> str:
        """Return the text of a section, lines joined; empty without one."""
        return " ".join(text for name, text in self.sections if name == section)

    def items(self, section: str) -> set[str]:
        """Return the comma-separated items of a section."""
        return {item.strip() for item in self.text(section).split(",") if item.strip()}

    def keys(self) -> tuple[int, bool]:
        """Return how many keys are named, and whether more may follow."""
        return _numbers(_KEY.findall(self.text("KEYS")))

    def arguments(self) -> tuple[int, bool]:
        """Return how many arguments are named, and whether more may follow."""
        return _numbers(_ARGUMENT.findall(self.text("ARGV")))


def _numbers(found: list[tuple[str, str]]) -> tuple[int, bool]:
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    assert not any(dots for _, dots in found[:-1])
    is_open = bool(found and found[-1][1])
    return len(found) - is_open, is_open


def header_of(script: str) -> Header:
    """Return the header of a script's own file."""
    own = next(part for part in PARTS[script] if part == script)
    lines = source(own).splitlines()
    comment = [line.removeprefix("-- ") for line in lines[: _length(lines)]]
    header = Header(comment[0])
    for line in comment[1:]:
        match = _SECTION.match(line)
        if match is None:
            name, text = header.sections.pop()
            header.sections.append((name, f"{text} {line.strip()}"))
        elif line.startswith(("KEYS", "ARGV")):
            header.sections.append((match[1], line))
        else:
            header.sections.append((match[1], line.partition(": ")[2]))
    return header


def _length(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if not line.startswith("-- ")), len(lines))
