"""Rules of the repository itself: sizes, names, documents, and a place for everything."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import taskqueue_core
import taskqueue_server
from taskqueue_core.cli.app import app as main_app
from taskqueue_core.cli.worker import worker_app
from taskqueue_core.config import KEYS, PREFIX
from taskqueue_core.plugin.loading import HOOK_NAMES
from taskqueue_server.cli import app as server_app
from taskqueue_server.spec import METHODS, load_contract

ROOT = Path(__file__).parents[1]
PACKAGES = ("taskqueue_core", "taskqueue_server", "plugins", "clients")

#: What may lie in the top folder, beside files that git ignores.
TOP = {
    *("openapi", "taskqueue_core", "taskqueue_server", "plugins", "clients", "tests", "examples"),
    *("docs", "deploy", "benchmarks", ".ci", "Makefile", "pyproject.toml", ".gitignore"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
}

#: Targets that users of the original know.
TARGETS = {
    *("run-api", "run-worker", "dev-redis", "test", "test-coverage", "build"),
    *("load-test-smoke", "load-test", "load-test-stress"),
    *("setup", "demo", "up", "lint", "types", "bench", "clean", "help"),
    *("sdk", "generate-clients", "generate-python-client", "generate-ts-client"),
}

#: Most lines of a module, a function, a class, a Lua script, an operation, a test file, the README.
MODULE, FUNCTION, CLASS, SCRIPT, OPERATION, TEST_FILE, README = 500, 60, 250, 120, 25, 400, 200


@cache
def tracked() -> tuple[Path, ...]:
    """Return the files of the repository, new ones included, as paths relative to its top."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(Path(line) for line in listed.splitlines() if (ROOT / line).is_file())


def python_files(*folders: str) -> list[Path]:
    """Return the Python files in these top folders that somebody wrote."""
    found = [path for path in tracked() if path.suffix == ".py" and path.parts[0] in folders]
    return [path for path in found if "_generated" not in path.parts]


def count_lines(path: Path) -> int:
    """Return the number of lines of a file."""
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def definitions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield every function and class of a module, nested ones too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def too_long(paths: list[Path], limit: int) -> list[str]:
    """Return the files with more lines than ``limit``."""
    return [f"{path}: {count_lines(path)}" for path in paths if count_lines(path) > limit]


def too_long_inside(paths: list[Path], limit: int, *kinds: type[ast.AST]) -> list[str]:
    """Return the definitions of some kinds whose bodies have more lines than ``limit``.

    Docstrings count. Signatures do not: those of the commands are the lists of their flags.
    """
    found = []
    for path in paths:
        for node in definitions(path):
            size = (node.end_lineno or 0) - node.body[0].lineno + 1
            if isinstance(node, kinds) and size > limit:
                found.append(f"{path}:{node.lineno} {node.name}: {size}")
    return found


def test_no_file_is_too_long() -> None:
    """A file fits in a head."""
    assert too_long(python_files(*PACKAGES, "benchmarks", "examples"), MODULE) == []
    assert too_long(python_files("tests"), TEST_FILE) == []
    assert too_long([path for path in tracked() if path.suffix == ".lua"], SCRIPT) == []
    assert too_long([Path("README.md")], README) == []


def test_no_function_or_class_is_too_long() -> None:
    """A function fits on a screen, a class on a few."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    everything = python_files(*PACKAGES, "benchmarks", "examples", "tests")
    assert too_long_inside(everything, FUNCTION, *functions) == []
    assert too_long_inside(everything, CLASS, ast.ClassDef) == []
    operations = [path for path in tracked() if path.parent.name == "operations"]
    assert operations
    modules = [path for path in operations if path.name != "__init__.py"]
    assert too_long_inside(modules, OPERATION, *functions) == []


def test_modules_are_named_after_a_thing() -> None:
    """Nothing is a utility: name the concept, or keep it beside its only user."""
    vague = re.compile(r"_?(utils?|utilities|commons?|helpers?|misc|tools)")
    parts = {(path, part) for path in python_files(*PACKAGES) for part in path.parts}
    assert [path for path, part in parts if vague.fullmatch(part.removesuffix(".py"))] == []


def test_top_folder() -> None:
    """Everything has its place; the top folder is the table of contents."""
    assert {path.parts[0] for path in tracked()} - TOP == set()


def modules() -> Iterator[ModuleType]:
    """Yield every module of the packages."""
    for package in (taskqueue_core, taskqueue_server):
        yield package
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> set[str]:
    """Return the public names that a module defines, or that a package only passes on."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    is_package = module.__file__.endswith("__init__.py")
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
            case ast.ImportFrom(module=source) if is_package and source != "__future__":
                names |= {alias.asname or alias.name for alias in node.names} - used
    return {name for name in names if not name.startswith("_")}


def test_all_is_true() -> None:
    """``__all__`` names what is there, and every public name; every package has one."""
    for module in modules():
        listed = getattr(module, "__all__", None)
        if listed is None:
            assert not hasattr(module, "__path__") or not public_names(module), module.__name__
            continue
        assert len(set(listed)) == len(listed), module.__name__
        assert [name for name in listed if not hasattr(module, name)] == [], module.__name__
        assert public_names(module) - set(listed) == set(), module.__name__


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a command and those below it, each with its full name."""
    yield name, command
    # By what they have, not by class: typer brings a click of its own.
    for word, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {word}")


def flags(command: Any) -> set[str]:
    """Return the long flags of one command."""
    options = [one for one in command.params if one.param_type_name == "option"]
    names = [name for one in options for name in (*one.opts, *one.secondary_opts)]
    return {name for name in names if name.startswith("--")}


APPLICATIONS = {
    "taskqueue": main_app,
    "taskqueue-server": server_app,
    "taskqueue-worker": worker_app,
}
COMMANDS = dict(
    found
    for name, application in APPLICATIONS.items()
    for found in commands(typer.main.get_command(application), name)
)


def test_every_command_is_looked_at() -> None:
    """The tests below see the flags that everybody knows: they would pass without any, too."""
    assert flags(COMMANDS["taskqueue-server"]) >= {"--port", "--dev", "--insecure-no-auth"}
    assert flags(COMMANDS["taskqueue-worker"]) >= {"--concurrency", "--queues", "--id"}
    assert flags(COMMANDS["taskqueue"]) >= {"--version"}
    assert flags(COMMANDS["taskqueue submit"]) >= {"--payload", "--in", "--server"}
    assert flags(COMMANDS["taskqueue config show"]) >= {"--json", "--redis-url"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_documented(name: str) -> None:
    """A command, its arguments and flags say what they are for; docs/configuration.md has them.

    Its table of flags names those of each command, and none that a command does not have.
    """
    command = COMMANDS[name]
    assert command.help, f"{name} has no help"
    assert [one.name for one in command.params if not getattr(one, "help", None)] == []
    assert documented_flags().get(name, set()) == flags(command)


def test_documented_commands_exist() -> None:
    """The table of flags names no command that there is not."""
    assert documented_flags().keys() - COMMANDS.keys() == set()


def documented_flags() -> dict[str, set[str]]:
    """Return the flags of each command, as the rows of the table that name it say."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = page.partition("## Flags\n")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for names, listed in re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", names):
            found.setdefault(name, set()).update(re.findall(r"`(--[a-z-]+)", listed))
    return found


def test_every_hook_is_documented() -> None:
    """docs/plugins.md names each hook, and none that does not exist."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\btaskqueue_(?!core|server|email)[a-z_]+", text)) == set(HOOK_NAMES)


def test_version_is_in_one_place() -> None:
    """``_version.py`` holds it; the packaging and the command line read it there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert version("taskqueue-service") == taskqueue_core.__version__
    assigned = re.compile(r"^_*version_*\s*(:.*)?=", re.MULTILINE | re.IGNORECASE)
    paths = python_files("taskqueue_core", "taskqueue_server")
    found = [path for path in paths if assigned.search((ROOT / path).read_text(encoding="utf-8"))]
    assert found == [Path("taskqueue_core/_version.py")]


def test_nothing_names_a_machine_or_a_registry() -> None:
    """What is committed works anywhere: no home folders, no addresses of package indexes."""
    forbidden = re.compile(
        r"(?<![\w.])/(work|root|home/\w+|Users/\w+)/"
        r"|pypi\.or[g]|pythonhosted\.or[g]|registry\.npmj[s]|deb\.debia[n]"
    )
    found = []
    for path in tracked():
        text = (ROOT / path).read_bytes().decode("utf-8", "replace")
        found += [f"{path}: {match[0]}" for match in forbidden.finditer(text)]
    assert found == []


def test_every_operation_has_a_function() -> None:
    """The operationId is the name of a function in the module of its tag."""
    folder = Path("taskqueue_server/operations")
    for path_item in load_contract()["paths"].values():
        for operation in (path_item[method] for method in METHODS if method in path_item):
            module = folder / f"{operation['tags'][0]}.py"
            assert operation["operationId"] in {node.name for node in definitions(module)}


def test_make_targets() -> None:
    """The targets that users know exist, and ``make help`` lists every target."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]+):", text, re.MULTILINE))
    # When make runs the tests, it must not speak to the make that the test runs.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    shown = {line.split()[0] for line in listed.stdout.splitlines()[1:]}
    assert TARGETS - targets == set()
    assert shown == targets


def test_variables_in_documents_are_settings() -> None:
    """A variable that a document tells people to set is one that is read."""
    known = {PREFIX.lower() + key.replace(".", "") for key in KEYS}
    for path in (path for path in tracked() if path.suffix == ".md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(PREFIX + r"(?!API\b)[A-Z_]+\b", text):
            assert PREFIX.lower() + name.removeprefix(PREFIX).replace("_", "").lower() in known, (
                f"{path}: {name}"
            )
