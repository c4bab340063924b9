"""The TypeScript SDK: generated from the contract, typed strictly, tested against a server.

Skipped, with the reason, where there is no Node that is new enough or its packages cannot be had.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import taskqueue_core

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "typescript"
BIN = Path(sys.executable).parent
#: What the generator needs; CI installs a Node beside Python where the machine has an older one.
OLDEST_NODE = (20, 19)
PATIENCE_SECONDS = 570

pytestmark = pytest.mark.timeout(600)

Npm = Callable[..., str]


def environment() -> dict[str, str]:
    """Return the environment in which a Node beside Python comes first."""
    # When make runs the tests, it must not speak to the make that a test runs.
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return {**inherited, "PATH": path, "TASKQUEUE_BIN": str(BIN), "NO_COLOR": "1"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the package; its output and errors are one text."""
    pipe, same = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        command,
        cwd=PACKAGE,
        env=environment(),
        stdout=pipe,
        stderr=same,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                # With all that it started: a suite that hangs has a service of its own.
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, printed)


def what_is_missing() -> str:
    """Return why the suite cannot run here, "" if it can."""
    path = environment()["PATH"]
    if not shutil.which("npm", path=path) or not (node := shutil.which("node", path=path)):
        return "Node and npm are not installed"
    found = re.match(r"v(\d+)\.(\d+)", run(node, "--version").stdout)
    assert found
    if (int(found[1]), int(found[2])) < OLDEST_NODE:
        return f"Node {found[0]} is older than {OLDEST_NODE[0]}.{OLDEST_NODE[1]}"
    installed = str(PACKAGE.relative_to(ROOT) / "node_modules" / "installed")
    made = run("make", "--no-print-directory", "-C", str(ROOT), installed)
    return f"npm cannot install its packages: {made.stdout[-500:]}" if made.returncode else ""


@pytest.fixture(scope="module")
def npm() -> Npm:
    """Return what runs an npm script of the package and returns its output."""
    lock = PACKAGE / "build" / "lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        # Two test processes must not install into the same folder at once.
        fcntl.flock(file, fcntl.LOCK_EX)
        if missing := what_is_missing():
            pytest.skip(missing)

    def script(name: str, *flags: str) -> str:
        done = run("npm", "run", "--silent", name, "--", *flags)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return script


def tree(folder: Path) -> dict[str, str]:
    """Return every file of a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths}


def test_the_generated_code_is_that_of_the_contract(npm: Npm, tmp_path: Path) -> None:
    """``make generate-ts-client`` changes nothing: not the first time, not the second."""
    committed = tree(PACKAGE / "src" / "generated")
    assert "sdk.gen.ts" in committed
    for number in range(2):
        npm("generate", "--output", str(tmp_path / str(number)))
        assert tree(tmp_path / str(number)) == committed, "run: make generate-ts-client"


def test_types(npm: Npm) -> None:
    """The package and its tests are strictly typed."""
    npm("types")


def test_suite(npm: Npm) -> None:
    """The suite of the package, against a server that asks for a key."""
    printed = npm("test")
    assert re.search(r"Tests +\d+ passed \(\d+\)", printed), printed


def test_the_lock_names_no_registry() -> None:
    """What is installed is pinned by version and hash; where it comes from is everybody's own."""
    lock = json.loads((PACKAGE / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []


def test_it_needs_nothing_and_has_the_version_of_the_service() -> None:
    """No package comes with it: a WebSocket for older Nodes is the user's to choose."""
    package = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert package["peerDependenciesMeta"] == {"ws": {"optional": True}}
    assert package["version"] == taskqueue_core.__version__
    exact = re.compile(r"\d+\.\d+\.\d+")
    assert all(exact.fullmatch(version) for version in package["devDependencies"].values())
