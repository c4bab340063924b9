"""No byte from outside becomes code: what could do that is used nowhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("taskqueue_core", "taskqueue_server", "plugins")
    for path in (ROOT / folder).rglob("*.py")
    if "tests" not in path.relative_to(ROOT).parts
)

#: Modules that make objects or programs of bytes.
MODULES = {
    *("pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"),
    *("code", "codeop", "imp", "runpy", "multiprocessing", "xmlrpc", "telnetlib"),
}
CALLS = {"eval", "exec", "compile", "__import__", "import_module", "system", "popen"}
#: YAML readers that make nothing but plain values.
SAFE_LOADERS = {"_UniqueKeys", "loader"}


def dangers(source: str) -> Iterator[str]:
    """Yield what a module uses that it may not."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
                if name in CALLS and owner != "re":
                    yield f"{owner}.{name}"
                if owner == "yaml" and name.endswith("load") and name != "safe_load":
                    loader = node.args[1] if len(node.args) > 1 else None
                    if not (isinstance(loader, ast.Name) and loader.id in SAFE_LOADERS):
                        yield "yaml.load"
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield "shell=True"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import multiprocessing.connection",
        "from marshal import loads",
        "eval(text)",
        "builtins.exec(text)",
        "importlib.import_module(name)",
        "yaml.load(text)",
        "yaml.load(text, yaml.UnsafeLoader)",
        "yaml.unsafe_load(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_dangers_are_seen(source: str) -> None:
    """The test below would notice."""
    assert list(dangers(source))


@pytest.mark.parametrize("source", ["re.compile(x)", "yaml.safe_load(x)", "json.loads(x)"])
def test_harmless_ones_are_not(source: str) -> None:
    """It does not cry wolf."""
    assert list(dangers(source)) == []


def test_nothing_makes_code_of_data() -> None:
    """No pickle, no eval, no import by a name that came from outside, no shell."""
    found = {
        str(path.relative_to(ROOT)): list(dangers(path.read_text(encoding="utf-8")))
        for path in SOURCES
    }
    assert len(found) > 80
    assert {path: what for path, what in found.items() if what} == {}
