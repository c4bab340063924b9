"""Histories of the broker agree with a model of it, step by step: known ones, and random ones.

``MODEL_EXAMPLES`` sets how many random histories are tried; by default it is CI's budget, always
the same histories. ``MODEL_SHRINK=0`` reports the first failure as it was found.
"""

from __future__ import annotations

import os

import pytest
from histories import HISTORIES, LOST, Step
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Machine
from mutants import MUTANTS
from topology import EMBEDDED

from taskqueue_core.settings import Settings

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "100"))
SHRINKS = os.environ.get("MODEL_SHRINK", "1") != "0"


@pytest.fixture
def machine(settings: Settings) -> type[Machine]:
    """Return the machine, bound to the broker of this test process."""
    return type("BoundMachine", (Machine,), {"redis_settings": settings})


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_known_histories_agree_with_the_model(
    machine: type[Machine], history: tuple[Step, ...]
) -> None:
    """What has shown a broken rule once shows none now."""
    pair = machine()
    try:
        for name, *values in history:
            losses = {"is_lost": True} if values[-1] == LOST else {}
            getattr(pair, str(name))(*values[: len(values) - len(losses)], **losses)
            pair.broker_and_model_agree()
    finally:
        pair.teardown()


@pytest.mark.timeout(1800)
def test_random_histories_agree_with_the_model(
    machine: type[Machine], request: pytest.FixtureRequest
) -> None:
    """Nothing is lost, doubled or stuck in any history of calls, crashes and lost replies."""
    # The scripts are the same everywhere: elsewhere a few histories show that the server is, too.
    is_embedded = request.node.callspec.params["redis_url"] == EMBEDDED
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=EXAMPLES if is_embedded else -(-EXAMPLES // 6),
            stateful_step_count=40,
            deadline=None,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            phases=(Phase.generate, Phase.shrink)[: None if SHRINKS else 1],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_every_mutant_has_its_history() -> None:
    """Each way to break a rule that is no equivalent is noticed by a history of its own."""
    assert set(HISTORIES) == {mutant.name for mutant in MUTANTS if not mutant.equivalent}
