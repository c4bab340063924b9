"""The fault run: real processes, real faults, and an oracle that counts every task.

``taskqueue verify`` is its command. The broker is a Redis of the user's, in a namespace of its own,
or one that the run starts and may kill.
"""

from __future__ import annotations

from taskqueue_core.verification.balance import render
from taskqueue_core.verification.faults import Amounts
from taskqueue_core.verification.run import OVERHEAD_SECONDS, Plan, Report, verify

__all__ = ["OVERHEAD_SECONDS", "Amounts", "Plan", "Report", "render", "verify"]
