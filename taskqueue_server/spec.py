"""The contract as data: found, read, and fitted to the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import yaml

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


def fit_contract(contract: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the contract as this server fulfils it.

    Metrics are served where the settings say, or not at all, and nothing asks for credentials
    while authentication is off.
    """
    paths = dict(contract["paths"])
    metrics = paths.pop("/metrics")
    if settings.metrics.enabled:
        paths[settings.metrics.path] = metrics
    security = contract["security"] if settings.auth.enabled else []
    return {**contract, "paths": paths, "security": security}
