"""Processes under attack run at their own speed: their lines are counted by the other tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def untraced_children() -> Iterator[None]:
    """Start processes without coverage: it would double the time that each takes to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
