"""The command line explains itself, and does so at once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import taskqueue_core
from taskqueue_core.cli.app import app
from taskqueue_core.cli.worker import worker_app

SHARED = {"--config", "--redis-url", "--data-dir", "--log-level"}
HTTP = {"--server", "--api-key"}
FLAGS = {
    "submit": HTTP
    | {"--payload", "--priority", "--max-retries", "--timeout", "--at", "--in", "--queue"}
    | {"--metadata", "--wait"},
    "get": HTTP | {"--wait"},
    "cancel": HTTP | {"--running"},
    "audit": SHARED | {"--repair"},
    "broker": {"--config", "--data-dir"},
    "verify": {"--config", "--redis-url", "--minutes", "--seed", "--keep"},
    "config show": SHARED | {"--json"},
    "keys new": SHARED | {"--scope", "--owner", "--days"},
    "keys list": SHARED | {"--json"},
    "keys revoke": SHARED,
    "plugins list": {"--config", "--log-level", "--json"},
}
#: What takes long to import, and what a command that does not need it must not wait for.
HEAVY = {"redis", "httpx", "connexion", "structlog", "pydantic", "msgspec", "yaml", "rich"}


def run(application: typer.Typer, *arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(application, arguments)
    return result.exit_code, result.output


def flags_in(text: str) -> set[str]:
    """Return the flags that a help text lists."""
    return set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize("command", FLAGS)
def test_help_of_a_command_is_complete(command: str) -> None:
    """Every flag is there with a sentence, and so is every exit code."""
    code, text = run(app, *command.split(), "--help")
    assert (code, flags_in(text)) == (0, FLAGS[command])
    assert not re.search(r"^  --[a-z-]+( [A-Z=,]+)?$", text, re.MULTILINE)
    assert re.search(r"Exit codes:\n    0  \w", text)


def test_help_of_the_worker_is_complete() -> None:
    """Its flags are the shared ones and four of its own."""
    code, text = run(worker_app, "--help")
    own = {"--concurrency", "--processes", "--queues", "--id"}
    assert (code, flags_in(text)) == (0, SHARED | own)
    assert re.findall(r"^    (\d)  \w", text, re.MULTILINE) == ["0", "2", "3"]


@pytest.mark.parametrize("arguments", [[], ["config"], ["keys"], ["plugins"]])
def test_group_alone_shows_its_commands(arguments: list[str]) -> None:
    """Whoever leaves the command out is told which ones there are, each by a whole sentence."""
    _, text = run(app, *arguments)
    rows = text.partition("Commands:\n")[2].splitlines()
    names = {" ".join([*arguments, row.split()[0]]).split()[len(arguments)] for row in rows}
    prefix = arguments[0] if arguments else ""
    there = {name.split()[-1] for name in FLAGS if name.startswith(f"{prefix} ".lstrip())}
    assert names == (there if arguments else {name.split()[0] for name in FLAGS})
    assert all(row.endswith(".") and not row.endswith("...") for row in rows)


def test_version() -> None:
    """The version is the package's."""
    assert run(app, "--version") == (0, f"taskqueue {taskqueue_core.__version__}\n")


@pytest.mark.parametrize("program", ["main", "worker_main"])
def test_help_imports_nothing_heavy(program: str) -> None:
    """Help answers at once: nothing is imported that only a running command needs."""
    code = f"""
import sys
from taskqueue_core.cli import {program}
sys.argv = ["taskqueue", "--help"]
try:
    {program}()
except SystemExit as end:
    assert end.code == 0
print(*sorted(name for name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert "Usage: taskqueue" in done.stdout
    assert HEAVY & set(done.stderr.split()) == set()
