"""The installed distributions that offer plugins, found without importing any of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Final

ENTRY_POINT_GROUP: Final = "taskqueue.plugins"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One entry point of the group. Without ``entry_point``, ``error`` says why it has none."""

    distribution: str
    version: str
    name: str
    entry_point: EntryPoint | None = None
    error: str = ""


def normalize(distribution: str) -> str:
    """Return a distribution's name the way package indexes compare names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def find_candidates() -> list[Candidate]:
    """Return every entry point of the group, by distribution, then by name.

    A distribution installed twice counts once, the first on the path, as for an import.
    """
    found: dict[str, list[Candidate]] = {}
    for distribution in distributions():
        candidates = _candidates_of(distribution)
        if candidates:
            found.setdefault(normalize(candidates[0].distribution), candidates)
    return [
        candidate
        for _, candidates in sorted(found.items())
        for candidate in sorted(candidates, key=lambda one: one.name)
    ]


def _candidates_of(distribution: Distribution) -> list[Candidate]:
    """Read one distribution by itself: a broken file must not hide the other distributions."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
        if ENTRY_POINT_GROUP not in text:
            return []  # most of what is installed: spares reading its metadata
        entry_points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
    except (ValueError, TypeError) as error:  # the parser of the standard library raises either
        name, version = _identify(distribution)
        problem = f"its entry_points.txt cannot be read: {error}"
        return [Candidate(distribution=name, version=version, name="?", error=problem)]
    name, version = _identify(distribution)
    return [
        Candidate(distribution=name, version=version, name=entry.name, entry_point=entry)
        for entry in entry_points
    ]


def _identify(distribution: Distribution) -> tuple[str, str]:
    metadata = distribution.metadata
    present = {key: metadata[key] for key in ("Name", "Version") if key in metadata}
    return present.get("Name", "unnamed"), present.get("Version", "unknown")
