"""The worker: small loops around one executor; ``worker.py`` starts and stops them in order."""

from __future__ import annotations

from taskqueue_core.worker.process import run_worker
from taskqueue_core.worker.worker import Worker

__all__ = ["Worker", "run_worker"]
