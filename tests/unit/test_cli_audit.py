"""Which violations ``taskqueue audit`` reports."""

from __future__ import annotations

import pytest

from taskqueue_core.cli.audit import confirmed


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("looks", "reported"),
    [
        ([[]], []),
        ([["a", "b"], ["c", "b"]], ["b"]),
        ([["moved"], []], []),
    ],
)
async def test_violation_is_one_that_stays(looks: list[list[str]], reported: list[str]) -> None:
    """A task that moved between two reads is no violation; a clean first look is enough."""
    left = list(looks)

    async def look() -> list[str]:
        return left.pop(0)

    assert await confirmed(look) == reported
    assert left == []
