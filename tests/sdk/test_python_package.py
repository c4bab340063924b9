"""The Python client as a package: generated parts are up to date, the wheel is whole."""

from __future__ import annotations

import filecmp
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any, get_args

import pytest
from live_service import API_KEY, LiveService

import taskqueue_client
from taskqueue_client import _calls, events
from taskqueue_server.spec import METHODS, load_contract

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "clients" / "python"
PACKAGE = PROJECT / "taskqueue_client"
GENERATED = ("_generated", "_sync")
#: Operations for load balancers and monitoring, and an alias.
NOT_CALLED = {
    *("get_liveness", "check_live", "check_ready", "get_metrics"),
    *("list_queues", "connect_websocket"),
}
#: What the wheel needs, and what these need.
NEEDED = {
    *("anyio", "attr", "attrs", "certifi", "h11", "httpcore", "httpx", "idna", "websockets"),
    "typing_extensions",
}


def run(*command: str | Path, **environ: str) -> str:
    """Run a command to its end and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    done = subprocess.run(
        list(map(str, command)),
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def differences(compared: filecmp.dircmp[str], inside: str = "") -> list[str]:
    """Return the files that are not the same, or on one side only."""
    pairs = filecmp.cmpfiles(compared.left, compared.right, compared.common_files, shallow=False)
    names = [*compared.left_only, *compared.right_only, *pairs[1], *pairs[2]]
    found = [inside + name for name in names]
    for name, sub in compared.subdirs.items():
        found += differences(sub, f"{inside}{name}/")
    return found


@pytest.mark.parametrize("seed", ["0", "1"])
def test_what_is_generated_is_up_to_date(tmp_path: Path, seed: str) -> None:
    """Generating again changes nothing, whatever the hash seed: `make generate-python-client`."""
    run(sys.executable, PROJECT / "generate.py", "--output", tmp_path, PYTHONHASHSEED=seed)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(GENERATED)
    for name in GENERATED:
        ignored = [*filecmp.DEFAULT_IGNORES, "py.typed"]
        compared = filecmp.dircmp(tmp_path / name, PACKAGE / name, ignore=ignored)
        assert differences(compared, f"{name}/") == []


def test_a_difference_is_found(tmp_path: Path) -> None:
    """The comparison sees changed, missing and surplus files, at every depth."""
    for side, text in (("a", "old"), ("b", "new")):
        (tmp_path / side / "deep").mkdir(parents=True)
        (tmp_path / side / "deep" / "same.py").write_text("same")
        (tmp_path / side / "deep" / "changed.py").write_text(text)
        (tmp_path / side / f"only_{side}.py").write_text("")
    found = differences(filecmp.dircmp(tmp_path / "a", tmp_path / "b"))
    assert found == ["only_a.py", "only_b.py", "deep/changed.py"]


def operations() -> set[str]:
    """Return the operations of the contract."""
    paths = load_contract()["paths"].values()
    return {item[method]["operationId"] for item in paths for method in METHODS if method in item}


def test_every_operation_can_be_called() -> None:
    """What the contract gains the client gains, or it is said here why not."""
    used = {name for name in operations() if callable(getattr(_calls, name, None))}
    assert used | NOT_CALLED == operations()
    assert not used & NOT_CALLED


def test_every_event_is_typed() -> None:
    """Each type of the contract is read as its class, and none as an unknown event."""
    contract: dict[str, Any] = load_contract()["components"]["schemas"]
    mapping = contract["Event"]["discriminator"]["mapping"]
    assert set(mapping) == set(contract["EventType"]["enum"])
    names = {reference.rpartition("/")[2] for reference in mapping.values()}
    assert {one.__name__ for one in get_args(events.Event)} == names | {"UnknownEvent"}
    found = {kind: parse.__self__.__name__ for kind, parse in events._PARSERS.items()}  # type: ignore[attr-defined]
    assert found == {kind: one.rpartition("/")[2] for kind, one in mapping.items()}


def test_all_names_what_is_there() -> None:
    """``__all__`` is true, and there are no two names for one thing."""
    listed = taskqueue_client.__all__
    assert len(set(listed)) == len(listed)
    assert [name for name in listed if not hasattr(taskqueue_client, name)] == []


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the wheel and what it needs, nothing else.

    What it needs is that of this environment, linked: no index is asked.
    """
    place = tmp_path_factory.mktemp("client")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, PROJECT)
    (wheel,) = place.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "venv" / "lib" / version / "site-packages"
    for found in Path(sysconfig.get_path("purelib")).iterdir():
        if re.split(r"[-.]", found.name)[0] in NEEDED:
            (packages / found.name).symlink_to(found)
    python = place / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel)
    run(*pip, "check")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names} == {
        "taskqueue_client",
        "taskqueue_client-0.1.0.dist-info",
    }
    assert "taskqueue_client/py.typed" in names
    return python


SCRIPT = """
import asyncio, importlib.metadata, sys
from taskqueue_client import AsyncTaskQueueClient, TaskQueueClient

with TaskQueueClient(sys.argv[1], api_key=sys.argv[2]) as client:
    with client.events("task.completed") as stream:
        task = client.submit_task("echo", {"a": 1})
        print(client.result(task.id)["echoed"], type(stream.receive(timeout=30)).__name__)

async def main():
    async with AsyncTaskQueueClient(sys.argv[1], api_key=sys.argv[2]) as client:
        print((await client.wait(task.id)).state)

asyncio.run(main())
required = importlib.metadata.requires("taskqueue-client")
print(sorted(one.partition(">")[0] for one in required))
print([name for name in sys.modules if name.startswith(("taskqueue_core", "taskqueue_server"))])
"""


def test_the_wheel_works_alone(python: Path, service: LiveService, tmp_path: Path) -> None:
    """In an environment that has httpx, attrs and websockets, against a live service."""
    script = tmp_path / "use.py"
    script.write_text(SCRIPT)
    assert run(python, script, service.url, API_KEY).splitlines() == [
        "{'a': 1} TaskCompleted",
        "completed",
        "['attrs', 'httpx', 'websockets']",
        "[]",
    ]
