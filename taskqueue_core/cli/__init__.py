"""The commands ``taskqueue`` and ``taskqueue-worker``.

Modules here import nothing but typer and each other before a command runs, so that ``--help``
answers at once; ``api`` is the exception and is itself imported by the commands that need it.
"""

from __future__ import annotations

from taskqueue_core.cli.app import main
from taskqueue_core.cli.worker import worker_main

__all__ = ["main", "worker_main"]
