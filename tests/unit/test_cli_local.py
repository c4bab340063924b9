"""``taskqueue config show`` and ``taskqueue plugins list``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from taskqueue_core import errors
from taskqueue_core.config import KEYS

ROOT = Path(errors.__file__).parents[1]


class Place:
    """A directory in which commands run, with nothing of this process's settings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {
            name: value for name, value in os.environ.items() if "TASKQUEUE" not in name
        } | {"PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])}

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run ``taskqueue``; return its exit code and its two outputs."""
        code = "from taskqueue_core.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def install(self, name: str, source: str) -> None:
        """Install a plugin that is a module of that name in a distribution of that name."""
        (self.path / f"{name}.py").write_text(
            "from taskqueue_core.plugin import handler\n" + dedent(source)
        )
        info = self.path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[taskqueue.plugins]\nmain = {name}\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return an empty directory to run commands in."""
    return Place(tmp_path)


def row_of(text: str, name: str) -> list[str]:
    """Return the words of the row that holds ``name``."""
    [row] = [line.split() for line in text.splitlines() if name in line.split()]
    return row


def test_config_shows_values_and_origins(place: Place) -> None:
    """Each key has its value and where it came from; a flag wins."""
    (place.path / "config.yaml").write_text("worker: {concurrency: 3}\nserver: {adminport: 1}\n")
    place.environ["TASKQUEUE_DATADIR"] = "there"
    code, out, err = place.run("config", "show", "--log-level", "debug")
    assert code == 0
    assert row_of(out, "worker.concurrency")[1:] == ["3", "file", "config.yaml"]
    assert row_of(out, "datadir")[1:] == ["there", "environment", "TASKQUEUE_DATADIR"]
    assert row_of(out, "loglevel")[1:] == ["debug", "flag", "--log-level"]
    assert row_of(out, "server.port")[1:] == ["8080", "default"]
    assert err.count("server.adminport") == 1


def test_config_hides_secrets(place: Place) -> None:
    """No password and no key is shown, in either form."""
    place.environ["TASKQUEUE_AUTH_APIKEYS"] = "hush-1"
    for form in ([], ["--json"]):
        code, out, _ = place.run("config", "show", "--redis-url", "redis://:hush-2@h/0", *form)
        assert (code, "hush" in out) == (0, False)


def test_config_as_json(place: Place) -> None:
    """Scripts get every key in order."""
    _, out, _ = place.run("config", "show", "--json")
    rows = json.loads(out)
    assert [row["key"] for row in rows] == list(KEYS)
    assert rows[0] == {"key": "loglevel", "value": "info", "origin": "default"}


@pytest.mark.parametrize(
    "command", [["config", "show"], ["plugins", "list"], ["audit"], ["broker"]]
)
def test_refused_setting(place: Place, command: list[str]) -> None:
    """Every command that uses settings says what is wrong with them and ends with 2."""
    place.environ["TASKQUEUE_WORKER_CONCURENCY"] = "3"
    code, out, err = place.run(*command)
    assert (code, out) == (2, "")
    assert "did you mean worker.concurrency" in err


def test_plugins_that_are_fine(place: Place) -> None:
    """A plugin is listed with what it offers; what it prints stays out of the table."""
    place.install(
        "fine_plugin",
        """
        print("hello from import")
        b = handler("b")(lambda ctx, payload: 1)
        a = handler("a")(lambda ctx, payload: 1)
        """,
    )
    code, out, err = place.run("plugins", "list")
    assert (code, "hello" in out, "hello" in err) == (0, False, True)
    assert row_of(out, "fine_plugin")[:6] == ["main", "fine_plugin", "1.2", "loaded", "a,", "b"]
    found = json.loads(place.run("plugins", "list", "--json")[1])
    [row] = [row for row in found if row["distribution"] == "fine_plugin"]
    assert row.pop("load_ms") >= 0
    assert row == {
        "plugin": "main",
        "distribution": "fine_plugin",
        "version": "1.2",
        "state": "loaded",
        "handlers": ["a", "b"],
        "error": "",
    }


def test_plugin_that_fails(place: Place) -> None:
    """One failure makes the exit code 1; the traceback is for those who ask."""
    place.install("broken_plugin", "raise RuntimeError('it is\\nbroken')")
    code, out, err = place.run("plugins", "list")
    row = row_of(out, "broken_plugin")
    assert (code, row[3], " ".join(row[5:])) == (1, "failed", "RuntimeError: it is broken")
    assert err == ""
    assert "Traceback" in place.run("plugins", "list", "--log-level", "error")[2]


def test_plugin_that_is_disabled(place: Place) -> None:
    """The settings say which plugins are not loaded; that is no failure."""
    place.install("broken_plugin", "raise RuntimeError('broken')")
    place.environ["TASKQUEUE_PLUGINS_DISABLED"] = "broken_plugin"
    code, out, _ = place.run("plugins", "list")
    assert (code, row_of(out, "broken_plugin")[3]) == (0, "disabled")


def test_plugins_that_clash(place: Place) -> None:
    """Two plugins that claim one type are a failure whose message holds the fix."""
    for name in ("first_plugin", "second_plugin"):
        place.install(name, "a = handler('a')(lambda ctx, payload: 1)")
    code, out, err = place.run("plugins", "list")
    assert (code, out) == (1, "")
    assert "set plugins.prefer" in err
