"""Fixtures of the tour: a whole system."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Yield a running system; it must stop cleanly."""
    system = System(tmp_path_factory.mktemp("system"))
    yield system
    assert system.stop() == 0, system.log.read_text()
