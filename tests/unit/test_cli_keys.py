"""``taskqueue keys``: what is printed, what is kept, and what is refused."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner, Result

from taskqueue_core.cli.app import app


@pytest.fixture
def environment(redis_url: str, namespace: str) -> dict[str, str]:
    """Return variables that name the test's own namespace."""
    return {"TASKQUEUE_REDIS_URL": redis_url, "TASKQUEUE_QUEUE_NAMESPACE": namespace}


class Shell:
    """Runs ``taskqueue keys`` in this process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._runner = CliRunner(env={"COLUMNS": "200", **environment})

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        """Run a command and check its exit code."""
        result = self._runner.invoke(app, ["keys", *arguments])
        assert result.exit_code == code, result.output
        return result


@pytest.fixture
def keys(environment: dict[str, str]) -> Shell:
    """Return a way to run the commands."""
    return Shell(environment)


def test_life_of_a_key(keys: Shell) -> None:
    """It is printed once, listed without its secret, and gone when it is revoked."""
    made = keys("new", "--scope", "tasks:write", "--scope", "tasks:read", "--owner", "acme")
    text = made.stdout.strip()
    assert re.fullmatch(r"tq_[0-9a-f]{8}_[\w-]{43}", text)
    assert "(tasks:read, tasks:write; owner acme, does not expire)" in made.stderr
    _, key_id, secret = text.split("_", 2)
    listed = keys("list")
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert rows[0] == ["ID", "SCOPES", "OWNER", "CREATED", "EXPIRES"]
    assert rows[1][:4] == [key_id, "tasks:read", "tasks:write", "acme"]
    assert rows[1][5] == "-"
    assert secret not in listed.output + made.stderr
    assert keys("revoke", key_id).stdout == f"revoked {key_id}\n"
    assert keys("list", "--json").stdout == "[]\n"


def test_list_as_json(keys: Shell) -> None:
    """The same for programs."""
    keys("new", "--scope", "admin", "--days", "1.5")
    [row] = json.loads(keys("list", "--json").stdout)
    assert list(row) == ["id", "scopes", "owner", "created_at", "expires_at"]
    assert (row["scopes"], row["owner"]) == (["admin"], "")
    assert row["expires_at"] > row["created_at"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a key needs at least one scope"),
        (["--scope", "root"], "there is no scope 'root'"),
        (["--scope", "admin", "--owner", "acme"], "cannot have the scope admin"),
        (["--scope", "metrics", "--owner", "a b"], "an owner begins with a letter"),
        (["--scope", "metrics", "--days", "-1"], "more than 0"),
    ],
)
def test_refused(keys: Shell, arguments: list[str], message: str) -> None:
    """What breaks a rule is told, and nothing is made."""
    refused = keys("new", *arguments, code=2)
    assert message in refused.stderr
    assert refused.stdout == ""
    assert keys("list", "--json").stdout == "[]\n"


def test_revoking_none(keys: Shell) -> None:
    """An id that names no key is told, and where to find those that do."""
    refused = keys("revoke", "00000000", code=1)
    assert "API key 00000000 not found; `taskqueue keys list` shows the ids" in refused.stderr


def test_without_a_broker(environment: dict[str, str]) -> None:
    """A Redis that cannot be used is told."""
    away = Shell({**environment, "TASKQUEUE_REDIS_URL": "redis://127.0.0.1:1"})
    assert "taskqueue:" in away("list", code=2).stderr
