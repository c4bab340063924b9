"""What is installed from wheels works by itself, and takes plugins from anywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

_ROOT = Path(__file__).parents[2]
_QUIET = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("TASKQUEUE", "COVERAGE", "PYTHON", "VIRTUAL_ENV"))
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, and the wheels that were installed into it."""

    directory: Path
    wheels: list[Path]

    def command(self, name: str) -> str:
        """Return the path of a program in it."""
        return str(self.directory / "bin" / name)

    def install(self, *things: Path) -> None:
        """Install wheels or folders, without asking any index."""
        pip = [self.command("python"), "-m", "pip", "install", "--quiet", "--no-index"]
        run([*pip, "--no-deps", "--no-build-isolation", *map(str, things)])


def run(command: list[str], cwd: Path | None = None) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=_QUIET, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Build the wheels of the core and the basic plugin and install them somewhere else.

    Third-party packages are those of this environment, found through a path file: that does not
    bring its editable installs along.
    """
    place = tmp_path_factory.mktemp("installed")
    for project in (_ROOT, _ROOT / "plugins" / "taskqueue-basic"):
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
        run([*build, str(place / "dist"), str(project)])
    run([sys.executable, "-m", "venv", str(place / "venv")])
    libraries = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "venv" / "lib" / version / "site-packages"
    (packages / "third_party.pth").write_text("\n".join(libraries), encoding="utf-8")
    made = Environment(directory=place / "venv", wheels=sorted((place / "dist").glob("*.whl")))
    made.install(*made.wheels)
    return made


@contextmanager
def running(command: list[str], folder: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that works in ``folder``; it is stopped afterwards, and must stop well."""
    with (folder / log).open("wb") as stderr:
        process = subprocess.Popen(command, cwd=folder, env=_QUIET, stderr=stderr)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(40) == 0, (folder / log).read_text()


def wait_for_log(folder: Path, log: str, event: str) -> dict[str, Any]:
    """Return the first line of a log with this event."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in (folder / log).read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and line.endswith("}") and json.loads(line)["event"] == event:
                found: dict[str, Any] = json.loads(line)
                return found
        time.sleep(0.05)
    raise AssertionError(f"no {event!r} in: " + (folder / log).read_text(encoding="utf-8"))


def run_task(url: str, **request: Any) -> dict[str, Any]:
    """Submit a task and return it once it has ended."""
    with httpx.Client(base_url=url, timeout=20) as client:
        answer = client.post("/api/v1/tasks", json=request)
        assert answer.status_code == 201, answer.text
        task: dict[str, Any] = answer.json()
        deadline = time.monotonic() + 30
        while task["state"] not in {"completed", "dead_letter"} and time.monotonic() < deadline:
            time.sleep(0.05)
            task = client.get(answer.headers["location"]).json()
    return task


def code_blocks(document: Path) -> dict[str, str]:
    """Return the code blocks of a document that begin with their file's name."""
    text = document.read_text(encoding="utf-8")
    return dict(re.findall(r"```\w+\n# (\w+\.\w+)\n(.*?)```", text, re.DOTALL))


def test_wheel_holds_contract_and_scripts(environment: Environment) -> None:
    """Data files are where the installed code looks for them, and no test is shipped."""
    core = next(path for path in environment.wheels if path.name.startswith("taskqueue_service"))
    names = zipfile.ZipFile(core).namelist()
    scripts = {path.name for path in (_ROOT / "taskqueue_core/broker/lua").glob("*.lua")}
    shipped = {Path(name).name for name in names if name.startswith("taskqueue_core/broker/lua/")}
    assert scripts <= shipped
    assert {"taskqueue_server/openapi.yaml", "taskqueue_core/py.typed"} <= set(names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "taskqueue_core",
        "taskqueue_server",
    }


def test_one_command_in_an_empty_folder(environment: Environment, tmp_path: Path) -> None:
    """``taskqueue-server --dev`` is a whole system, wherever it is started."""
    command = [environment.command("taskqueue-server"), "--dev", "--port", "0"]
    with running(command, tmp_path, "server.log"):
        url = wait_for_log(tmp_path, "server.log", "serving")["url"]
        task = run_task(url, type="echo", payload={"message": "Hello, World!"})
    assert (task["state"], task["result"]["echoed"]) == ("completed", {"message": "Hello, World!"})
    where = "import taskqueue_core, taskqueue_server; print(taskqueue_core.__file__)"
    origin = run([environment.command("python"), "-c", where], cwd=tmp_path)
    assert origin.startswith(str(environment.directory))


def test_plugin_from_outside(environment: Environment, tmp_path: Path) -> None:
    """The plugin of docs/plugins.md runs with the next start of a worker, and so does its test."""
    source, work = tmp_path / "acme", tmp_path / "work"
    source.mkdir()
    work.mkdir()
    for name, text in code_blocks(_ROOT / "docs" / "plugins.md").items():
        (source / name).write_text(text, encoding="utf-8")
    server = [environment.command("taskqueue-server"), "--port", "0"]
    with running(server, work, "server.log"):
        url = wait_for_log(work, "server.log", "serving")["url"]
        environment.install(source)
        with running([environment.command("taskqueue-worker")], work, "worker.log"):
            wait_for_log(work, "worker.log", "worker started")
            task = run_task(url, type="thumbnail", payload={"url": "https://example.com/a.png"})
            wrong = {"type": "thumbnail", "payload": {"url": 5}}
            refused = httpx.post(f"{url}/api/v1/tasks", json=wrong, timeout=10)
    assert task["result"] == {"thumbnail": "https://example.com/a.png?width=200"}
    assert (refused.status_code, refused.json()["field"]) == (400, "payload/url")
    run([environment.command("python"), "-m", "pytest", "-q", str(source)], cwd=work)
    listed = run([environment.command("taskqueue"), "plugins", "list", "--json"], cwd=work)
    rows = {row["distribution"]: row for row in json.loads(listed)}
    assert rows["acme-thumbnails"]["handlers"] == ["thumbnail"]
