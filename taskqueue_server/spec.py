"""The contract as data: found, read, and fitted to the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import yaml

from taskqueue_core.models import SCOPES
from taskqueue_core.settings import Settings

METHODS: Final = ("get", "put", "post", "delete", "patch")

_PACKAGED: Final = Path(__file__).with_name("openapi.yaml")
_CHECKOUT: Final = Path(__file__).parent.parent / "openapi" / "openapi.yaml"


def find_contract() -> Path:
    """Return where the contract is: inside an installed wheel, or beside the package."""
    return _PACKAGED if _PACKAGED.is_file() else _CHECKOUT


def load_contract() -> dict[str, Any]:
    """Return the contract as it is written.

    Connexion would run the file through a template engine, so it is given this value instead.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return cast("dict[str, Any]", yaml.load(find_contract().read_bytes(), loader))  # noqa: S506 -- both loaders are safe


def operation_ids(contract: dict[str, Any]) -> list[str]:
    """Return the operationId of every operation, in the order of the file."""
    return [
        path_item[method]["operationId"]
        for path_item in contract["paths"].values()
        for method in METHODS
        if method in path_item
    ]


def required_scopes(contract: dict[str, Any]) -> dict[str, str | None]:
    """Return the scope that each operation needs, by operationId; ``None`` where it is open to all.

    Raises:
        RuntimeError: an operation says nothing clear about it, so that it would be open by mistake
            or closed to everybody.
    """
    schemes = [[name] for name in contract["components"]["securitySchemes"]]
    found: dict[str, str | None] = {}
    for path_item in contract["paths"].values():
        for operation in (path_item[method] for method in METHODS if method in path_item):
            name, scope = operation["operationId"], operation.get("x-required-scope")
            security = operation.get("security", contract["security"])
            is_open = security == [] and scope is None
            if not is_open and (scope not in SCOPES or list(map(list, security)) != schemes):
                raise RuntimeError(
                    f"operation {name} needs security: [], or else every security scheme and an "
                    f"x-required-scope of {', '.join(SCOPES)}"
                )
            found[name] = scope
    return found


def parameters_of(contract: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """Return the parameters of the ``get`` operation at a path, references resolved."""

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" not in node:
            return {name: resolve(value) for name, value in node.items()}
        target: Any = contract
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolve(target)

    found: list[dict[str, Any]] = resolve(contract["paths"][path]["get"]["parameters"])
    return found


def limited_operations(contract: dict[str, Any]) -> dict[str, bool]:
    """Return the operations that may be refused with 429, by operationId.

    The value tells whether their requests may be repeats: whether they may have a key that says so.
    """
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    return {
        operation["operationId"]: key in operation.get("parameters", ())
        for path_item in contract["paths"].values()
        for operation in (path_item[method] for method in METHODS if method in path_item)
        if "429" in operation["responses"]
    }


def fit_contract(contract: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the contract as this server fulfils it.

    Metrics are served where the settings say, or not at all, and nothing declares credentials
    while authentication is off.
    """
    paths = dict(contract["paths"])
    metrics = paths.pop("/metrics")
    if settings.metrics.enabled:
        paths[settings.metrics.path] = metrics
    security = contract["security"] if settings.auth.enabled else []
    return {**contract, "paths": paths, "security": security}
