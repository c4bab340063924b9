"""Histories that have shown a broken rule: the shortest for each mutant in ``mutants.py``.

A step is a rule of the machine and its values; ``LOST`` at the end loses its reply.
"""

from __future__ import annotations

from typing import Final

Step = tuple[str | int | bytes | None, ...]

LOST: Final = "lost"

_SUBMIT: Final[Step] = ("submit", 1, "a")
_LATER: Final[Step] = ("submit", 1, "a", 3_000)
_FETCH: Final[Step] = ("fetch", "w0", 1)
_COMPLETE: Final[Step] = ("work", "w0", "complete")
_CANCEL: Final[Step] = ("steer", "cancel", 0)
_STOP: Final[Step] = ("steer", "stop", 0)
_RETRY: Final[Step] = ("steer", "retry", 0)
_PROMOTE: Final[Step] = ("upkeep", "promote")
_PAUSE: Final[Step] = ("switch", "pause", 1)
#: ``w0`` has no handler for this one; ``w1`` has, once it has said so in a beat.
_STRANGE: Final[Step] = ("submit", 1, "b")
_HOLD: Final[Step] = ("work", "w0", "hold")

HISTORIES: Final[dict[str, tuple[Step, ...]]] = {
    "outcome without fence": (
        _SUBMIT,
        ("work", "w0", "release"),
        ("fetch", "w1", 1),
        ("report", 1, "complete"),
    ),
    "outcome in any state": (_SUBMIT, _COMPLETE, ("report", 0, "fail")),
    "submit is not repeatable": ((*_SUBMIT, LOST),),
    "backlog limit off by one": (("flood", 1),),
    "a key is forgotten": (("submit_with_key", "a", b"1"), ("submit_with_key", "a", b"1")),
    "a key is not compared": (("submit_with_key", "a", b"1"), ("submit_with_key", "a", b"2")),
    "delivery number stays": (_SUBMIT, _FETCH),
    "fetch counts no attempt": (_SUBMIT, _FETCH),
    "fetch forgets its request": (_SUBMIT, ("fetch", "w0", 1, "late"), _FETCH),
    "promote leaves the schedule": (_LATER, ("advance", 4_000), _PROMOTE),
    "held tasks stay in the schedule": (_STRANGE, _HOLD, ("beat", "w1"), ("fetch", "w1", 1)),
    "promote is early": (_LATER, _PROMOTE),
    "one retry too many": (_SUBMIT, ("bury", "w0")),
    "release burns an attempt": (_SUBMIT, ("work", "w0", "release")),
    "outcome stays on the stream": (_SUBMIT, _COMPLETE),
    "lost leases are not counted": (_SUBMIT, _FETCH, ("lapse", "w1", "w1")),
    "no poison": (_SUBMIT, ("poison", "w0", "w1")),
    "recover keeps the fence": (_SUBMIT, _FETCH, ("lapse", "w1", "w1")),
    "no grace after an outage": (_SUBMIT, ("beat", "w0"), _FETCH, ("outage", "w1", 4_000)),
    "heartbeat renews what is lost": (_SUBMIT, _FETCH, ("lapse", "w1", "w1"), ("beat", "w0")),
    "forgotten tasks stay": (
        _SUBMIT,
        ("fetch", "w0", 1, "late"),
        ("advance", 11_000),
        ("beat", "w0"),
    ),
    "cancel leaves the entry": (_SUBMIT, _CANCEL),
    "cancel leaves the schedule": (_LATER, _CANCEL),
    "cancel of running tasks": (_SUBMIT, _FETCH, _CANCEL),
    "retry keeps its index entry": (_SUBMIT, _CANCEL, _RETRY),
    "retry keeps attempts": (_SUBMIT, ("bury", "w0"), _RETRY),
    "clear keeps the dead letter": (_SUBMIT, ("bury", "w0"), ("administer", "clear", 0)),
    "retain leaves the hash": (_SUBMIT, _COMPLETE, ("grow_old", 8)),
    "backlog does not fall": (_SUBMIT, _COMPLETE),
    "purge of running tasks": (_SUBMIT, _FETCH, ("administer", "purge", 1)),
    "redrive keeps lost leases": (_SUBMIT, ("poison", "w0", "w1"), ("administer", "redrive", 0)),
    "retain is early": (_SUBMIT, _COMPLETE, ("grow_old", 6)),
    "retain leaves the body": (("submit", 3, "a"), _COMPLETE, ("grow_old", 8)),
    "retain leaves the history": (_SUBMIT, ("bury", "w0"), ("grow_old", 31)),
    "cancel tells nobody": (_SUBMIT, _CANCEL),
    "promote tells nobody": (_LATER, ("advance", 4_000), _PROMOTE),
    "grace is forgiven for ever": (
        _SUBMIT,
        ("beat", "w0"),
        _FETCH,
        ("outage", "w1", 11_000),
        ("outage", "w0", 11_000),
    ),
    "fetch repeats what is another's": (
        _SUBMIT,
        ("fetch", "w0", 1, "late"),
        ("advance", 11_000),
        ("beat", "w0"),
        ("fetch", "w1", 1),
        _FETCH,
    ),
    "hold burns an attempt": (_STRANGE, _HOLD),
    "hold begins anew": (_STRANGE, _HOLD, ("advance", 70_000), _HOLD),
    "a failure is no end of holding": (
        _STRANGE,
        _HOLD,
        ("beat", "w1"),
        ("work", "w1", "fail", 2),
        ("advance", 70_000),
        _HOLD,
    ),
    "hold is not indexed": (_STRANGE, _HOLD),
    "held tasks are anybody's": (_STRANGE, _HOLD, ("beat", "w0"), _FETCH),
    "more held tasks than wanted": (
        _STRANGE,
        _STRANGE,
        _HOLD,
        _HOLD,
        ("beat", "w1"),
        ("fetch", "w1", 1),
    ),
    "least urgent held tasks first": (
        ("submit", 0, "b"),
        ("submit", 3, "b"),
        _HOLD,
        _HOLD,
        ("beat", "w1"),
        ("fetch", "w1", 1),
    ),
    "promote leaves the held index": (_STRANGE, _HOLD, ("advance", 11_000), _PROMOTE),
    "cancel leaves the held index": (_STRANGE, _HOLD, _CANCEL),
    "held types stay": (_STRANGE, _HOLD, _CANCEL),
    "fetch starts what is paused": (_SUBMIT, _PAUSE, _FETCH),
    "held tasks start though paused": (
        _STRANGE,
        _HOLD,
        ("beat", "w1"),
        _PAUSE,
        ("fetch", "w1", 1),
    ),
    "a pause is want of a handler": (
        _STRANGE,
        _HOLD,
        _PAUSE,
        ("advance", 70_000),
        _PROMOTE,
        ("switch", "resume", 1),
        _FETCH,
        _HOLD,
    ),
    "recover starts what is paused": (_SUBMIT, _FETCH, _PAUSE, ("lapse", "w1", "w1")),
    "a failure outlives the request to stop": (_SUBMIT, _FETCH, _STOP, ("report", 0, "fail", 2)),
    "a release outlives the request to stop": (_SUBMIT, _FETCH, _STOP, ("report", 0, "release")),
    "a lost lease outlives the request to stop": (
        _SUBMIT,
        _FETCH,
        _STOP,
        ("lapse", "w1", "w1"),
    ),
    "the request to stop outlives the result": (_SUBMIT, _FETCH, _STOP, ("report", 0, "complete")),
    "the request to stop outlives the task": (_SUBMIT, _FETCH, _STOP, ("report", 0, "hold")),
    "stop is not repeatable": (_SUBMIT, ("steer", "stop", 0, LOST)),
    "low priority first": (("submit", 3, "a"), _FETCH),
}
