"""Plugins that look installed: a module and a ``.dist-info`` folder on the import path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

#: ``install(distribution, source, entry_points=..., version=...)`` returns the module's name.
Install = Callable[..., str]

_HEADER = "from taskqueue_core.plugin import TaskContext, handler, hookimpl\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install fake distributions for one test; each has one module, named after it.

    ``entry_points`` are the lines of the group, with ``{module}`` for the module's name; without
    them there is one, ``main``, that names the module.
    """
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(
        distribution: str,
        source: str,
        *,
        entry_points: str = "main = {module}",
        version: str = "0.1.0",
    ) -> str:
        module = f"fake_{distribution.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(_HEADER + dedent(source))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata)
        lines = entry_points.format(module=module)
        (info / "entry_points.txt").write_text(f"[taskqueue.plugins]\n{lines}\n")
        importlib.invalidate_caches()
        return module

    yield add
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]
