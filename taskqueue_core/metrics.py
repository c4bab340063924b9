"""Names of the fleet-wide counters that the transitions keep in the ``stats`` hash.

A field is a name followed by its labels, joined by colons (no label can hold one). The server
renders them as Prometheus families; nothing here counts in memory.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

#: Tasks that are waiting, running, scheduled or retrying; compared with the backlog limit.
BACKLOG: Final = "backlog"
#: ``submitted:<type>:<priority number>``.
SUBMITTED: Final = "submitted"
#: ``finished:<type>:<state>``: tasks that reached a terminal state.
FINISHED: Final = "finished"
#: ``retrying:<type>``: failed attempts that will be tried again by themselves.
RETRYING: Final = "retrying"
#: ``retried:<type>``: tasks sent back by hand.
RETRIED: Final = "retried"
#: Submissions that were scheduled for later.
SCHEDULED: Final = "scheduled"
#: Tasks that became dead letters.
DEAD_LETTERED: Final = "dead_lettered"
#: Outcomes refused because the task had been given to somebody else.
STALE: Final = "stale"
#: Leases that ran out; each is a delivery whose worker is gone.
LOST: Final = "lost"
#: Tasks taken over from a lost lease.
RECOVERED: Final = "recovered"
#: Stream entries without a waiting task behind them.
ORPHANS: Final = "orphans"
#: Deliveries to a worker that has no handler for the type.
MISROUTED: Final = "misrouted"
#: ``duration:<type>:<bucket>`` and ``duration_ms:<type>``: run time of finished attempts.
DURATION: Final = "duration"
DURATION_SUM: Final = "duration_ms"
#: ``wait:<priority number>:<bucket>`` and ``wait_ms:<priority number>``: queued to started.
WAIT: Final = "wait"
WAIT_SUM: Final = "wait_ms"
#: ``retry_delay:<type>:<bucket>`` and ``retry_delay_ms:<type>``: waits before automatic retries.
RETRY_DELAY: Final = "retry_delay"
RETRY_DELAY_SUM: Final = "retry_delay_ms"

#: Upper bounds of all histogram buckets, in milliseconds; one more bucket is unbounded.
BUCKETS_MS: Final = (
    *(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000),
    *(300_000, 3_600_000),
)

#: Label of every task type that no worker ever registered, so that labels stay bounded.
OTHER_TYPE: Final = "other"


def field(name: str, *labels: str | int) -> str:
    """Return the field of the ``stats`` hash for a counter and its labels."""
    return ":".join((name, *map(str, labels)))


def bucket(milliseconds: float) -> int:
    """Return the index of the histogram bucket a duration falls into."""
    return bisect_left(BUCKETS_MS, milliseconds)
