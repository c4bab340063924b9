"""The schedule of faults follows from the seed, is in time, and holds what was asked for."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from taskqueue_core.verification.faults import OF_BROKER, Kind, amounts_for, schedule

LEASE = 5.0


@pytest.mark.parametrize("seconds", [15.0, 45.0, 150.0, 450.0])
@pytest.mark.parametrize("seed", range(5))
def test_in_order_and_in_time(seconds: float, seed: int) -> None:
    """Nothing begins after the end, and what is done to the broker never overlaps."""
    tracks = schedule(
        random.Random(seed), amounts_for(seconds), seconds=seconds, lease_seconds=LEASE
    )
    for faults in tracks.values():
        assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
        assert all(0 <= fault.at <= seconds for fault in faults)
    for first, then in zip(tracks["broker"], tracks["broker"][1:], strict=False):
        longest = first.seconds if first.kind is not Kind.BROKER_KILL else 0
        assert then.at >= first.at + longest
    for freeze in tracks["freezes"]:
        assert freeze.at + freeze.seconds <= seconds


def test_seed_decides() -> None:
    """The same seed gives the same faults, another one others."""
    one, same, other = (
        schedule(random.Random(seed), amounts_for(60), seconds=60, lease_seconds=LEASE)
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_full_size() -> None:
    """270 seconds hold 50 deaths of workers, 50 of servers, 20 of the broker, and all else."""
    tracks = schedule(random.Random(1), amounts_for(270), seconds=270, lease_seconds=LEASE)
    counts = Counter(fault.kind for faults in tracks.values() for fault in faults)
    assert counts[Kind.WORKER_KILL] == counts[Kind.SERVER_KILL] == 50
    assert counts[Kind.BROKER_KILL] == 20
    assert set(counts) >= OF_BROKER - {Kind.BROKER_CUT, Kind.RESETS} | {Kind.FREEZE}


def test_somebody_elses_broker_is_left_alone() -> None:
    """It is cut off instead of killed, and its clients are not told to go."""
    tracks = schedule(
        random.Random(1), amounts_for(60), seconds=60, lease_seconds=LEASE, owns_broker=False
    )
    kinds = {fault.kind for fault in tracks["broker"]}
    assert kinds == {Kind.BROKER_CUT, Kind.RESETS, Kind.BROKER_STALL, Kind.OUTAGE}


def test_short_runs_leave_out_what_lasts() -> None:
    """There is no time for a ten-second stall in fifteen seconds."""
    tracks = schedule(random.Random(1), amounts_for(15), seconds=15, lease_seconds=LEASE)
    assert [fault.kind for fault in tracks["broker"]] == [Kind.BROKER_KILL]
    assert tracks["freezes"] == []
    assert tracks["workers"]
    assert tracks["servers"]
