"""Random histories of the broker agree with a model of it, step by step.

``MODEL_EXAMPLES`` sets how many histories are tried (CI's budget by default).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Machine

from taskqueue_core.settings import Settings

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "60"))


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
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
