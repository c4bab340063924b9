"""JSON Schemas of handlers: which may be published, and which would harm those who check them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

from taskqueue_core.errors import PluginError
from taskqueue_core.plugin import Handler, PluginHost, TaskContext, handler
from taskqueue_core.plugin import manager as manager_module
from taskqueue_core.plugin.schemas import HandlerSchemas, Schema, check_schema


@dataclass
class Mail:
    to: str
    copies: int | None = None


class Leaf(pydantic.BaseModel):
    kind: Literal["leaf"]


class Node(pydantic.BaseModel):
    kind: Literal["node"]
    children: list[Node | Leaf]


def chain(length: int, keyword: str = "allOf") -> Schema:
    """Return a short schema that has a value looked at 2^length times."""
    parts: dict[str, Any] = {
        f"D{n}": {keyword: [{"$ref": f"#/$defs/D{n + 1}"}] * 2} for n in range(length)
    }
    return {"$ref": "#/$defs/D0", "$defs": parts | {f"D{length}": {"type": "object"}}}


def nested(depth: int) -> Schema:
    """Return a schema of so many levels."""
    schema: Schema = {"type": "object"}
    for _ in range(depth - 1):
        schema = {"properties": {"a": schema}}
    return schema


def line(length: int) -> Schema:
    """Return a schema of parts that refer to one another, one after the other."""
    parts: Schema = {f"D{n}": {"$ref": f"#/$defs/D{n + 1}"} for n in range(length)}
    return {"$ref": "#/$defs/D0", "$defs": parts | {f"D{length}": {}}}


@pytest.mark.parametrize(
    ("schema", "spread"),
    [
        ({}, 1),
        (msgspec.json.schema(Mail), 4),
        (Node.model_json_schema(), 6),
        ({"properties": {"$ref": {"type": "string"}, "pattern": {}, "$id": {}}}, 1),
        ({"properties": {f"p{n}": {"type": "string"} for n in range(500)}}, 1),
        ({"enum": [{"$ref": "http://x"}], "default": {"$id": 1}, "const": {"pattern": 5}}, 1),
        ({"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {"type": "object"}}}, 2),
        ({"$ref": "#/definitions/A", "definitions": {"A": {"$ref": "#/definitions/A"}}}, 3),
        ({"pattern": "x" * 256}, 1),
        (nested(64), 1),
        (chain(10), 4094),
    ],
)
def test_what_may_be_published(schema: Schema, spread: int) -> None:
    """Schemas of annotations, words that are only names or values, and all that is just allowed."""
    assert check_schema(schema) == spread


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "http://169.254.169.254/latest"}, "refers to 'http://169"),
        ({"$ref": "file:///etc/passwd"}, "only to its own"),
        ({"properties": {"a": {"items": {"$ref": "other.json#/$defs/A"}}}}, "refers to"),
        ({"$ref": "#/$defs/Missing"}, "refers to"),
        ({"$ref": "#"}, "refers to"),
        ({"$id": "http://example.com/x"}, r"uses \$id"),
        ({"anyOf": [{"$dynamicRef": "#a"}]}, r"uses \$dynamicRef"),
        ({"$defs": {"A": {"$anchor": "a"}}}, r"uses \$anchor"),
        ({"pattern": "x" * 257}, "pattern of 257"),
        ({"patternProperties": {"x" * 257: {}}}, "pattern of 257"),
        ({"properties": {f"p{n}": {"pattern": "x"} for n in range(101)}}, "more than 100"),
        ({"description": "x" * 65_536}, "65536 are allowed"),
        (nested(65), "deeper than 64"),
        (line(1000), "too many in a row"),
        (chain(13), "within alternatives"),
        (chain(100), "looked at 1000000000 times"),
        (chain(40, "anyOf"), "within alternatives"),
        (chain(40, "oneOf"), "within alternatives"),
        ({"properties": {"a": chain(40)}, **chain(40)}, "within alternatives"),
    ],
)
def test_what_may_not(schema: Schema, message: str) -> None:
    """References to other places, long patterns, sizes, and bombs, wherever they are."""
    with pytest.raises(ValueError, match=message):
        check_schema(schema)


class Remote(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(json_schema_extra={"$ref": "http://example.com/schema"})
    a: int


class LongPattern(msgspec.Struct):
    a: Annotated[str, msgspec.Meta(pattern="a" * 300)]


@pytest.mark.parametrize("annotation", [Remote, LongPattern])
def test_a_plugin_with_such_a_schema_is_not_loaded(annotation: Any) -> None:
    """It is found when the plugin is loaded, and the message names the handler and the rule."""

    def run(ctx: TaskContext, payload: Any) -> None: ...

    run.__annotations__["payload"] = annotation
    with pytest.raises(PluginError, match=r'handler "order" \(.*run\): .*its schema'):
        PluginHost.of(handler("order")(run))


def returning(annotation: Any) -> Handler:
    """Return a handler whose return annotation is this one."""

    def run(ctx: TaskContext, payload: Mail) -> Any: ...

    run.__annotations__["return"] = annotation
    return handler("mail")(run)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int, {"type": "integer"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (None, {}),
        (Any, {}),
        ("Nowhere", {}),
        ("1 / 0", {}),
        (TaskContext, {}),
        (Remote, {}),
        ("Mail", msgspec.json.schema(Mail)),
    ],
)
def test_results(annotation: Any, schema: Schema) -> None:
    """What cannot be told is left out, and does no harm."""
    found = returning(annotation).schemas()
    assert found == HandlerSchemas(payload=msgspec.json.schema(Mail), result=schema)


def test_results_of_classes_inside_a_function() -> None:
    """A class that only the decorating function can see is found."""

    class Sent(msgspec.Struct):
        at: str

    @handler("mail")
    def send(ctx: TaskContext, payload: dict[str, Any]) -> Sent: ...

    assert send.schemas() == HandlerSchemas(result=msgspec.json.schema(Sent))


def test_digests_name_schemas() -> None:
    """Equal schemas have one name, others another."""
    one = HandlerSchemas(payload={"a": 1, "b": 2})
    assert one.digest == HandlerSchemas(payload={"b": 2, "a": 1}).digest
    assert one.digest != HandlerSchemas(result={"a": 1, "b": 2}).digest
    assert len(one.digest) == 16


def test_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that tell something, as long as there is room; the digests say which."""

    @handler("a")
    def free(ctx: TaskContext, payload: dict[str, Any]) -> None: ...

    @handler("b")
    def typed(ctx: TaskContext, payload: Mail) -> None: ...

    @handler("c")
    def other(ctx: TaskContext, payload: Mail) -> int: ...

    host = PluginHost.of(free, typed, other)
    assert set(host.schemas) == {"b", "c"}
    assert host.infos()["b"].schemas == host.schemas["b"].digest
    assert host.infos()["a"].schemas == ""
    room = len(msgspec.json.encode(host.schemas["b"]))
    monkeypatch.setattr(manager_module, "PUBLISHED_BYTES", room)
    crowded = PluginHost.of(free, typed, other)
    assert set(crowded.schemas) == {"b"}
    assert crowded.infos()["c"].schemas == ""
