"""Write what is generated of this package: models and requests from the contract, sync from async.

Reads files only. The same contract gives the same bytes, whatever the hash seed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

_HERE: Final = Path(__file__).parent
_CONTRACT: Final = _HERE.parents[1] / "openapi" / "openapi.yaml"
_PACKAGE: Final = _HERE / "taskqueue_client"
#: A protocol of its own, which the facade speaks.
_LEFT_OUT: Final = {"/ws"}
#: Files of the generator that speak to the network; here the facade does that.
_UNUSED: Final = ("client.py", "errors.py")
#: What turns asynchronous code into the same code that blocks.
_BLOCKING: Final = (
    (r"\basync (?=def |for |with )", ""),
    (r"\bawait ", ""),
    (r"\baclose\b", "close"),
    (r"\basynchronous client; the blocking one is generated from it", "blocking client"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"__a(?=(enter|exit|iter|next)__)", "__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\banext\(", "next("),
    (r"\b_async(?=(_io)?\b)", "_sync"),
)
_MARK: Final = "# Generated from {}: do not edit, run `make generate-python-client`.\n"


def main() -> None:
    """Generate into the package, or with ``--output`` somewhere else to compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=_PACKAGE)
    output = parser.parse_args().output
    with TemporaryDirectory() as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        _generate(Path(scratch), made / "_generated")
        _make_blocking(made / "_sync")
        _tidy(made)
        for folder in sorted(made.iterdir()):
            shutil.rmtree(output / folder.name, ignore_errors=True)
            shutil.copytree(folder, output / folder.name)


def _generate(scratch: Path, output: Path) -> None:
    contract = yaml.safe_load(_CONTRACT.read_text(encoding="utf-8"))
    overlay, config = scratch / "openapi.json", scratch / "config.json"
    overlay.write_text(json.dumps(adapt(contract)), encoding="utf-8")
    config.write_text(json.dumps({"post_hooks": []}), encoding="utf-8")
    options = {
        "--path": overlay,
        "--config": config,
        "--meta": "none",
        "--custom-template-path": _HERE / "templates",
        "--output-path": output,
    }
    flags = [str(part) for pair in options.items() for part in pair]
    _run("openapi_python_client", "generate", "--fail-on-warning", *flags)
    for name in _UNUSED:
        (output / name).unlink()


def adapt(contract: dict[str, Any]) -> dict[str, Any]:
    """Return the contract as the generator needs it; nothing on the wire is different.

    Objects of any content are plain values instead of classes, ids are text, and what has one
    value today may have another one tomorrow.
    """
    paths = {path: item for path, item in contract["paths"].items() if path not in _LEFT_OUT}
    adapted = {**contract, "paths": paths}
    result: dict[str, Any] = _adapt(adapted)
    return result


def _adapt(node: Any) -> Any:
    if isinstance(node, list):
        return [_adapt(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("additionalProperties") not in (None, False) and "properties" not in node:
        return {"description": node.get("description", "")}
    if node.get("format") == "uuid":
        node = {key: value for key, value in node.items() if key != "format"}
    if isinstance(node.get("properties"), dict):
        node = {**node, "properties": _open(node["properties"])}
    return {key: _adapt(value) for key, value in node.items()}


def _open(properties: dict[str, Any]) -> dict[str, Any]:
    """Return properties that take a second value one day; the types of events tell them apart."""
    return {
        name: {key: value for key, value in schema.items() if key != "enum"}
        if name != "type" and len(schema.get("enum", ())) == 1
        else schema
        for name, schema in properties.items()
    }


def _make_blocking(output: Path) -> None:
    output.mkdir()
    for source in sorted((_PACKAGE / "_async").glob("*.py")):
        text = source.read_text(encoding="utf-8")
        for pattern, replacement in _BLOCKING:
            text = re.sub(pattern, replacement, text)
        mark = _MARK.format(source.relative_to(_PACKAGE))
        (output / source.name).write_text(mark + text, encoding="utf-8")


def _tidy(folder: Path) -> None:
    # Isolated: the rules of whoever runs this must not change what comes out.
    ruff = ("--isolated", "--no-cache", "--quiet", "--line-length=100", "--target-version=py311")
    own = 'lint.isort.known-first-party=["taskqueue_client"]'
    _run(
        "ruff",
        "check",
        *ruff,
        "--config",
        own,
        "--fix-only",
        "--unsafe-fixes",
        "--select=F401,I,UP",
        str(folder),
    )
    _run("ruff", "format", *ruff, str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
