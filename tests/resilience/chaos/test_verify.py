"""The fault run at its smallest: every kind of fault, and no violation."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from taskqueue_core import verification
from taskqueue_core.cli.app import app
from taskqueue_core.settings import Settings
from taskqueue_core.verification import Plan, Report, render, verify
from taskqueue_core.verification.faults import Kind
from taskqueue_core.verification.oracle import Evidence
from taskqueue_core.verification.submitter import Tally

pytestmark = pytest.mark.anyio

#: A machine that runs other tests beside these is late now and then; the counts stay exact.
SLACK_SECONDS = 3.0
COMMAND = [sys.executable, "-c", "from taskqueue_core.cli import main; main()", "verify"]


def tell(text: str) -> None:
    """Keep what happened for a failure's report."""
    sys.stdout.write(text + "\n")


async def run(settings: Settings, seconds: float, folder: Path) -> Report:
    """Run faults, new ones each time; SEED repeats them."""
    seed = int(os.environ.get("SEED") or secrets.randbelow(1_000_000))
    plan = Plan(seed=seed, seconds=seconds, slack_seconds=SLACK_SECONDS, folder=folder)
    report = await verify(settings, plan, tell)
    tell(render(report))
    return report


@pytest.mark.timeout(240)
async def test_every_fault_with_a_broker_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers, servers and the broker are killed, frozen, stalled and cut off for 45 seconds."""
    caplog.set_level(logging.WARNING, logger="httpx")
    report = await run(Settings(), 45.0, tmp_path / "kept")
    assert report.violations == []
    done = {one.kind for one in report.incidents}
    assert done >= {Kind.WORKER_KILL, Kind.SERVER_KILL, Kind.FREEZE, Kind.BROKER_KILL}
    assert done >= {Kind.BROKER_STALL, Kind.OUTAGE, Kind.CLIENT_KILL}
    assert len(report.tally.accepted) > 100
    assert (tmp_path / "kept" / "ledger.jsonl").exists()


@pytest.mark.timeout(240)
def test_command_on_a_redis_of_the_user(redis_url: str) -> None:
    """It tells what it did, keeps to a namespace of its own, and leaves nothing behind."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("of-somebody-else", "x")
        done = subprocess.run(
            [*COMMAND, "--redis-url", redis_url, "--minutes", "0.75", "--seed", "7"],
            env={name: value for name, value in os.environ.items() if "TASKQUEUE" not in name},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "--seed 7 repeats" in done.stdout
        assert "worker killed: worker-" in done.stdout
        assert "violations" in done.stdout
        assert list(client.scan_iter("tq:{verify-*")) == []
        assert client.get("of-somebody-else") == b"x"


def test_redis_that_is_not_there() -> None:
    """Nothing is started, and the message names it."""
    done = subprocess.run(
        [*COMMAND, "--redis-url", "redis://127.0.0.1:1"],
        env={name: value for name, value in os.environ.items() if "TASKQUEUE" not in name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Redis cannot be reached" in done.stderr


def test_violations_are_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are printed below the balance, and the command does not succeed."""
    bad = Report(
        plan=Plan(seed=5, seconds=1.0),
        evidence=Evidence(
            accepted={},
            entries=[],
            events=[],
            tasks={},
            incidents=[],
            stats={},
            lease_seconds=5.0,
            submitted_until=0.0,
        ),
        tally=Tally(),
        incidents=[],
        violations=["task x was accepted and is lost"],
    )

    async def pretend(*_: object) -> Report:
        return bad

    monkeypatch.setattr(verification, "verify", pretend)
    result = CliRunner().invoke(app, ["verify", "--seed", "5"])
    assert result.exit_code == 1
    assert "violation: task x was accepted and is lost" in result.stdout
