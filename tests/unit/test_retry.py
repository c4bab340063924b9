"""When a failed attempt runs again."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskqueue_core.retry import RetryPolicy

RNG = random.Random(1)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (8, 128.0), (9, 256.0), (10, 300.0)]
)
def test_each_wait_doubles_up_to_the_longest(attempt: int, seconds: float) -> None:
    assert RetryPolicy(jitter=0).delay_seconds(attempt, RNG) == seconds


@pytest.mark.parametrize(
    ("policy", "attempt", "seconds"),
    [
        (RetryPolicy(initial_seconds=0, jitter=0), 5, 0.0),
        (RetryPolicy(initial_seconds=400, jitter=0), 1, 300.0),
        (RetryPolicy(factor=1, jitter=0), 50, 1.0),
        (RetryPolicy(factor=3, initial_seconds=0.5, jitter=0), 3, 4.5),
    ],
)
def test_the_policy_sets_the_waits(policy: RetryPolicy, attempt: int, seconds: float) -> None:
    assert policy.delay_seconds(attempt, RNG) == seconds


@pytest.mark.parametrize("attempt", [65, 1025, 10**9])
def test_a_very_late_attempt_does_not_overflow(attempt: int) -> None:
    assert RetryPolicy(jitter=0).delay_seconds(attempt, RNG) == 300.0


@given(
    attempt=st.integers(1, 100),
    seed=st.integers(),
    jitter=st.floats(0, 1),
    initial=st.floats(0, 1000),
)
@settings(deadline=None)
def test_jitter_moves_a_wait_by_at_most_its_part(
    attempt: int, seed: int, jitter: float, initial: float
) -> None:
    middle = RetryPolicy(initial_seconds=initial, jitter=0).delay_seconds(attempt, RNG)
    policy = RetryPolicy(initial_seconds=initial, jitter=jitter)
    moved = policy.delay_seconds(attempt, random.Random(seed))
    assert moved >= 0
    assert abs(moved - middle) <= middle * jitter * (1 + 1e-9)


def test_jitter_goes_both_ways_and_comes_from_the_given_source() -> None:
    policy = RetryPolicy(jitter=0.5)
    delays = [policy.delay_seconds(1, random.Random(seed)) for seed in range(20)]
    assert min(delays) < 1 < max(delays)
    assert delays == [policy.delay_seconds(1, random.Random(seed)) for seed in range(20)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"initial_seconds": -0.1},
        {"max_seconds": -1},
        {"factor": 0.9},
        {"jitter": -0.1},
        {"jitter": 1.1},
    ],
)
def test_a_policy_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_retries_may_be_none_or_left_to_the_service() -> None:
    assert RetryPolicy(max_retries=0).max_retries == 0
    assert RetryPolicy().max_retries is None
