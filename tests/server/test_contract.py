"""The contract itself, and that the server has exactly its operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from answers import operations
from openapi_spec_validator import validate

from taskqueue_core.settings import AuthSettings, MetricsSettings, Settings
from taskqueue_server.app import create_app
from taskqueue_server.contract import check_table
from taskqueue_server.messages import Request, Response
from taskqueue_server.spec import find_contract, fit_contract, load_contract, operation_ids

_SHAPES = {"type", "properties", "items", "oneOf"}


async def nothing(_request: Request) -> Response:
    """Stand in for an operation."""
    return Response(body=b"")


def _schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Yield everything that looks like a schema."""
    if isinstance(node, dict):
        if _SHAPES & set(node):
            yield node
        for value in node.values():
            yield from _schemas(value)
    elif isinstance(node, list):
        for item in node:
            yield from _schemas(item)


def test_is_valid_openapi() -> None:
    """The file is an OpenAPI 3.0.3 document."""
    assert load_contract()["openapi"] == "3.0.3"
    validate(load_contract())


def test_is_found_in_a_checkout() -> None:
    """Without a packaged copy the file of the repository is used."""
    assert find_contract().parts[-2:] == ("openapi", "openapi.yaml")


def test_table_has_the_operations_of_the_contract(settings: Settings) -> None:
    """An application starts only when table and contract name the same operations."""
    create_app(settings)
    with pytest.raises(RuntimeError, match="get_task"):
        check_table(
            load_contract(), dict.fromkeys(set(operation_ids(load_contract())) - {"get_task"})
        )  # type: ignore[arg-type]


def test_operation_ids_are_unique_snake_case() -> None:
    """An operationId is the name of a function in every client."""
    names = operation_ids(load_contract())
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)


def test_every_tag_has_a_module_of_operations() -> None:
    """Tags are the modules of ``taskqueue_server.operations``."""
    tags = {tag for _, _, operation in operations() for tag in operation["tags"]}
    assert tags == {
        *("tasks", "search", "task_types", "queues", "workers", "dead_letters", "events", "system")
    }


def test_bodies_and_answers_are_named_schemas() -> None:
    """No operation has an inline object, so that every generated type has a name."""
    for path, _, operation in operations():
        described = [operation.get("requestBody", {}), *operation["responses"].values()]
        for item in described:
            for media in item.get("content", {}).values():
                schema = media["schema"]
                assert "$ref" in schema or schema == {"type": "string"}, path


def test_integers_are_bounded() -> None:
    """Clients and generators know how large an integer can be."""
    for schema in _schemas(load_contract()["components"]["schemas"]):
        if schema.get("type") == "integer":
            assert {"minimum", "maximum"} <= set(schema), schema


def test_required_fields_exist() -> None:
    """A required field is one of the properties."""
    for schema in _schemas(load_contract()["components"]["schemas"]):
        if "properties" in schema and isinstance(schema.get("required"), list):
            assert set(schema["required"]) <= set(schema["properties"])


def test_operations_with_a_body_document_its_limits() -> None:
    """Whoever sends a body may be told that it is too late, too large, or of a wrong type."""
    for path, _, operation in operations():
        documented = set(operation["responses"])
        assert ({"408", "413", "415"} <= documented) == ("requestBody" in operation), path


def test_event_union_names_every_event() -> None:
    """The list of types, the union and its mapping agree, and each type is a single value."""
    schemas = load_contract()["components"]["schemas"]
    mapping = schemas["Event"]["discriminator"]["mapping"]
    assert list(mapping) == schemas["EventType"]["enum"]
    assert [item["$ref"] for item in schemas["Event"]["oneOf"]] == list(mapping.values())
    for name, reference in mapping.items():
        assert schemas[reference.rpartition("/")[2]]["properties"]["type"]["enum"] == [name]


def test_is_fitted_to_the_settings() -> None:
    """Metrics move or vanish with their setting, security is declared only when it is on."""
    contract = load_contract()
    moved = fit_contract(contract, Settings(metrics=MetricsSettings(path="/internal/metrics")))
    assert "/internal/metrics" in moved["paths"]
    assert "/metrics" not in moved["paths"]
    hidden = fit_contract(contract, Settings(metrics=MetricsSettings(enabled=False)))
    assert "get_metrics" not in operation_ids(hidden)
    closed = fit_contract(contract, Settings(auth=AuthSettings(enabled=True, api_keys=("k",))))
    assert (closed["security"], moved["security"]) == (contract["security"], [])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/api/v1/tasks", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/api/v1/tasks/1", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/admin/dlq/retry", "OPTIONS, POST"),
        ("BREW", "/health", "GET, HEAD, OPTIONS"),
    ],
)
async def test_wrong_methods_are_told_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    """405 names all methods of the path, those of other operations too."""
    response = await client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)


@pytest.mark.anyio
async def test_options_and_head(client: httpx.AsyncClient) -> None:
    """OPTIONS names the methods, HEAD answers as GET does but for the body."""
    options = await client.options("/api/v1/tasks")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    head = await client.head("/health")
    assert (head.status_code, head.headers["content-length"]) == (200, "18")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/nope", "/api/v1/tasks/", "/api/v1/tasks/a/b", "/health/"])
async def test_other_paths_are_not_found(client: httpx.AsyncClient, path: str) -> None:
    """What the contract does not name does not exist; there are no redirects."""
    response = await client.get(path)
    assert (response.status_code, response.json()["error"]) == (404, "Not Found")


@pytest.mark.anyio
async def test_request_ids(client: httpx.AsyncClient) -> None:
    """An id that is sent comes back, in errors too; one that could break a log does not."""
    kept = await client.get("/nope", headers={"X-Request-ID": "abc-1"})
    assert kept.headers["x-request-id"] == kept.json()["request_id"] == "abc-1"
    replaced = await client.get("/health", headers={"X-Request-ID": "a b\x7f"})
    assert replaced.headers["x-request-id"].isalnum()
