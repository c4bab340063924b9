"""Every answer against the contract: its status is documented, its body fits the schema."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema_rs

from taskqueue_server.spec import METHODS, load_contract


def to_draft4(schema: Any) -> Any:
    """Return a schema without OpenAPI's own ``nullable``."""
    if isinstance(schema, list):
        return [to_draft4(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: to_draft4(value) for name, value in schema.items() if name != "nullable"}
    if schema.get("nullable") is True and "type" in plain:
        plain["type"] = [plain["type"], "null"]
    return plain


class AnswerChecker:
    """Fails the test when an answer breaks the contract; an event hook of httpx."""

    def __init__(self) -> None:
        self._contract = load_contract()
        self._components = to_draft4(self._contract["components"])
        self._paths = {
            path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in self._contract["paths"]
        }
        self._validators: dict[str, jsonschema_rs.Draft4Validator] = {}
        self.seen: set[tuple[str, str, str]] = set()

    async def __call__(self, response: httpx.Response) -> None:
        """Check one answer."""
        await response.aread()
        self.check(response.request.method, response.request.url.path, response)

    def check(self, method: str, path: str, response: httpx.Response) -> None:
        """Check an answer to ``method path``."""
        if method in {"HEAD", "OPTIONS"}:
            is_preflight = "access-control-request-method" in response.request.headers
            assert response.content == b"" or is_preflight
            return
        template = next((name for name, known in self._paths.items() if known.fullmatch(path)), "")
        operation = self._contract["paths"].get(template, {}).get(method.lower())
        if operation is None:
            assert response.status_code in {404, 405}
            self.validate("Problem", response.json())
            return
        documented = operation["responses"]
        assert str(response.status_code) in documented, f"{method} {path}: {response.text}"
        self.seen.add((template, method.lower(), str(response.status_code)))
        self._check_body(documented[str(response.status_code)], response)

    def _check_body(self, documented: dict[str, Any], response: httpx.Response) -> None:
        if "$ref" in documented:
            name = documented["$ref"].rpartition("/")[2]
            documented = self._contract["components"]["responses"][name]
        for header, described in documented.get("headers", {}).items():
            if "$ref" in described:  # the required ones are shared
                assert header in response.headers
        media_type = response.headers["content-type"].partition(";")[0]
        schema = documented["content"][media_type]["schema"]
        if "$ref" in schema:
            self.validate(schema["$ref"].rpartition("/")[2], response.json())

    def validate(self, schema: str, value: Any) -> None:
        """Check a value against a named schema."""
        if schema not in self._validators:
            root = {"$ref": f"#/components/schemas/{schema}", "components": self._components}
            self._validators[schema] = jsonschema_rs.Draft4Validator(root, validate_formats=True)
        self._validators[schema].validate(value)


def operations(contract: dict[str, Any] | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (path, method, operation) of everything in the contract."""
    return [
        (path, method, item[method])
        for path, item in (contract or load_contract())["paths"].items()
        for method in METHODS
        if method in item
    ]
