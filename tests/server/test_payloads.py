"""Payloads against published schemas: what is refused, why, and in which time."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from structlog.testing import capture_logs

from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.plugin.schemas import Schema
from taskqueue_server.payloads import PayloadCheck

MS = 1e-3


class Item(msgspec.Struct):
    sku: str
    count: int | None = None


class Order(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]
    note: str = ""


class Card(pydantic.BaseModel):
    kind: Literal["card"]
    number: str = pydantic.Field(pattern=r"^\d{4}$")


class Cash(pydantic.BaseModel):
    kind: Literal["cash"]
    amount: int = pydantic.Field(ge=1)


class Payment(pydantic.BaseModel):
    by: Card | Cash
    then: Payment | None = None


ORDER = msgspec.json.schema(Order)
PAYMENT = Payment.model_json_schema()


def check(schema: Schema, payload: Any) -> None:
    """Check a payload as a submission would."""
    PayloadCheck("order", schema).check(payload, len(msgspec.json.encode(payload)))


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (ORDER, {"items": []}),
        (ORDER, {"items": [{"sku": "a", "count": 2**70, "more": 1}], "note": "x"}),
        (PAYMENT, {"by": {"kind": "cash", "amount": 1}, "then": None}),
        ({"format": "date-time", "properties": {"at": {"format": "date-time"}}}, {"at": "no"}),
        ({"properties": {"a": True, "b": {}}}, {"a": 1, "b": [2]}),
    ],
)
def test_what_fits(schema: Schema, payload: Any) -> None:
    """Whatever the schema allows; formats are for the worker to look at."""
    check(schema, payload)


@pytest.mark.parametrize(
    ("schema", "payload", "message"),
    [
        (ORDER, {}, "payload/items: is required"),
        (ORDER, {"items": 5}, 'payload/items: 5 is not of type "array"'),
        (ORDER, {"items": [{"sku": "a"}, {"sku": 1}]}, "payload/items/1/sku: 1 is not"),
        (ORDER, {"items": [{"sku": "a", "count": "x"}]}, "payload/items/0/count: \"x\" is not"),
        (ORDER, {"items": [], "extra": 1}, "payload/extra: is not allowed here"),
        (PAYMENT, {"by": {"kind": "card", "number": "12"}}, "payload/by/number: \"12\" does not"),
        (
            PAYMENT,
            {"by": {"kind": "cash", "amount": 1}, "then": {"by": {"kind": "cash", "amount": 0}}},
            "payload/then/by/amount: 0 is less than the minimum of 1",
        ),
        (PAYMENT, {"by": {"kind": "cheque"}}, "payload: does not fit the schema of the task type"),
        ({"not": {}}, {}, "payload: does not fit"),
        ({"allOf": [{"required": ["a"]}]}, {}, "payload/a: is required"),
        ({"prefixItems": [{}]}, {}, ""),
        ({"properties": {"a": {"prefixItems": [{"enum": [1]}], "items": False}}}, {"a": [1, 2]},
         "payload/a/1: is not allowed here"),
        ({"additionalProperties": {"type": "null"}}, {"x/y": 1}, "payload/x/y: 1 is not"),
        ({"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False}, {"b": 1},
         "payload: does not fit"),
    ],
)  # fmt: skip
def test_what_does_not(schema: Schema, payload: Any, message: str) -> None:
    """The field is a pointer to the part that does not fit, as far as that can be told."""
    if not message:
        check(schema, payload)
        return
    with pytest.raises(InvalidTaskError) as caught:
        check(schema, payload)
    assert str(caught.value).startswith(message)
    assert caught.value.field == message.partition(":")[0]


def test_long_values_and_paths_are_cut() -> None:
    """An answer stays short, whatever was sent."""
    with pytest.raises(InvalidTaskError) as caught:
        check({"additionalProperties": {"type": "null"}}, {"n" * 5000: "v" * 5000})
    assert len(str(caught.value)) < 700
    assert len(caught.value.field) == 200


def deep(depth: int) -> Any:
    """Return a payload of so many levels."""
    payload: Any = {}
    for _ in range(depth):
        payload = {"c": payload}
    return payload


BRANCHING: Schema = {
    "$ref": "#/$defs/A",
    "$defs": {
        name: {
            "required": ["c"],
            "properties": {
                "c": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
                "k": {"enum": [name, "other"]},
            },
        }
        for name in "AB"
    },
}


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (BRANCHING, deep(150)),
        ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": ["x"] * 100_000}),
        ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": [1] * 100_000 + ["x"]}),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "b"}),
        ({"properties": {"a": {"pattern": "(x*)*(y*)*(z*)*q"}}}, {"a": "xyz" * 30_000}),
    ],
)
def test_time_is_bounded(schema: Schema, payload: Any) -> None:
    """Alternatives in alternatives, many errors, patterns that others never finish: all refused."""
    one = PayloadCheck("order", schema)
    size = len(msgspec.json.encode(payload))
    began = time.process_time()
    with pytest.raises(InvalidTaskError):
        one.check(payload, size)
    assert time.process_time() - began < 500 * MS


def test_what_may_take_too_long_is_left_to_the_worker() -> None:
    """A thousand alternatives for each of many parts are not tried here."""
    many: Schema = {"properties": {"a": {"items": {"anyOf": [{"required": [f"k{n}"]}
                                                            for n in range(1000)]}}}}  # fmt: skip
    small, large = {"a": [{}]}, {"a": [{}] * 20_000}
    with pytest.raises(InvalidTaskError):
        check(many, small)
    began = time.process_time()
    check(many, large)
    assert time.process_time() - began < 200 * MS


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "#/$defs/Nowhere"},
        {"pattern": "(?=lookahead)"},
        {"pattern": "((a{99}){99}){99}"},
        {"pattern": 5},
        {"type": "no such type"},
        {"properties": []},
        {"$defs": [1]},
    ],
)
def test_schemas_that_cannot_be_used(schema: Schema) -> None:
    """Whatever a worker has published does no harm: it is said once, and everything fits."""
    one = PayloadCheck("order", schema)
    with capture_logs() as lines:
        one.check({"a": 1}, 7)
        one.check({"a": 1}, 7)
    assert [line["task_type"] for line in lines] == ["order"]
