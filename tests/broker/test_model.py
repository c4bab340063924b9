"""Random histories of the broker agree with a model of it, step by step.

``MODEL_EXAMPLES`` sets how many random histories are tried; by default it is CI's budget, always
the same histories. ``MODEL_SHRINK=0`` reports the first failure as it was found.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Machine

from taskqueue_core.settings import Settings

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "60"))
SHRINKS = os.environ.get("MODEL_SHRINK", "1") != "0"


@pytest.mark.timeout(600)
def test_random_histories_agree_with_the_model(settings: Settings) -> None:
    """Nothing is lost, doubled or stuck in any history of calls, crashes and lost replies."""
    machine = type("BoundMachine", (Machine,), {"redis_settings": settings})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            phases=(Phase.generate, Phase.shrink)[: None if SHRINKS else 1],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
