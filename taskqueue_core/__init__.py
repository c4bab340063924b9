"""The core of taskqueue: tasks, the broker, plugins and workers; no web library."""

from __future__ import annotations

from taskqueue_core._version import __version__

__all__ = ["__version__"]
