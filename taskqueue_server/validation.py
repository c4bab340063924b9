"""Requests against the contract: bodies, parameters, and the sentence that says what is wrong.

A body is parsed twice, because no parser sees everything: msgspec keeps integers of any size and
refuses what is not JSON, jiter refuses duplicate keys and nesting deeper than 200.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import jiter
import jsonschema_rs
import msgspec

from taskqueue_server.messages import Body, Scope, find_header
from taskqueue_server.problems import ProblemError, invalid

_JSON_TYPE: Final = re.compile(rb'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)
_SHOWN: Final = 200


def compile_schema(schema: dict[str, Any]) -> jsonschema_rs.Draft4Validator:
    """Return a validator for a schema of the contract whose references are resolved."""
    return jsonschema_rs.Draft4Validator(_to_draft4(schema), validate_formats=True)


def _to_draft4(schema: Any) -> Any:
    """Return a schema with OpenAPI's ``nullable`` spelled as JSON Schema has it."""
    if isinstance(schema, list):
        return [_to_draft4(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _to_draft4(value) for name, value in schema.items() if name != "example"}
    if plain.pop("nullable", False) is True and "type" in plain:
        plain["type"] = [plain["type"], "null"]
        if "enum" in plain:
            plain["enum"] = [*plain["enum"], None]
    return plain


def check(validator: jsonschema_rs.Draft4Validator, value: Any) -> None:
    """Raise ``ProblemError`` with field and rule unless ``value`` fits the schema."""
    if not validator.is_valid(value):
        raise _explain(next(validator.iter_errors(value)))


def _explain(error: jsonschema_rs.ValidationError) -> ProblemError:
    path = [str(part) for part in error.instance_path]
    kind = error.kind
    rule = error.message
    match kind:
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties():
            path, rule = [*path, str(kind.unexpected[0])], "is not a field of the contract"
        case jsonschema_rs.ValidationErrorKind.Required():
            path, rule = [*path, str(kind.property)], "is required"
        case jsonschema_rs.ValidationErrorKind.OneOfNotValid():
            rule = "must match exactly one of the forms of the contract"
        case jsonschema_rs.ValidationErrorKind.Format():
            rule = f"must be a {kind.format}" + _ZONE.get(kind.format, "")
        case _:
            rule = _cut_value(rule)
    return invalid(".".join(path)[:_SHOWN] or "body", rule)


_ZONE: Final = {"date-time": " with a zone (RFC 3339), such as 2026-01-15T12:00:00Z"}


def _cut_value(message: str) -> str:
    """Shorten the value that a message starts with, keep the rule that it ends with."""
    if len(message) <= _SHOWN:
        return message
    return f"{message[: _SHOWN // 2]}... {message[-_SHOWN // 2 :]}"


def parse_body(raw: bytes) -> Body:
    """Return a JSON body.

    Raises:
        ProblemError: it is no JSON, not UTF-8, nests too deep, or has a key twice.
    """
    try:
        values = msgspec.json.decode(raw)
        jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="none")
    except RecursionError:
        raise invalid("body", "nests deeper than 200 levels") from None
    except ValueError as error:
        raise invalid("body", f"is no valid JSON: {_reason(error)}") from None
    return Body(values, raw)


def _reason(error: ValueError) -> str:
    text = str(error)
    if "recursion limit" in text:
        return "it nests deeper than 200 levels"
    if text == "Input data was truncated":
        return "it ends too early, or holds an unpaired surrogate"
    return text[:_SHOWN]


def check_media_type(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise ``ProblemError`` (415) unless the body is declared as plain JSON."""
    content_type = find_header(headers, b"content-type")
    encoding = find_header(headers, b"content-encoding")
    if content_type is None or not _JSON_TYPE.fullmatch(content_type.strip()):
        given = "missing" if content_type is None else repr(content_type[:80].decode("latin-1"))
        raise ProblemError(
            415,
            "unsupported-media-type",
            f"Content-Type is {given}; send the body as application/json",
        )
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise ProblemError(
            415, "unsupported-media-type", "compressed bodies are not accepted; send it plain"
        )


class Parameters:
    """The path and query parameters of one operation, with their validators."""

    def __init__(self, parameters: Sequence[Mapping[str, Any]]) -> None:
        self._path = _validators(parameters, "path")
        self._query = _validators(parameters, "query")

    def check_path(self, values: Mapping[str, str]) -> None:
        """Raise ``ProblemError`` when a part of the path breaks a rule."""
        for name, validator in self._path.items():
            if not validator.is_valid(values[name]):
                raise invalid(name, _cut_value(next(validator.iter_errors(values[name])).message))

    def parse_query(self, scope: Scope) -> dict[str, str]:
        """Return the query; unknown and repeated parameters are refused."""
        raw: bytes = scope["query_string"]
        if not raw:
            return {}
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100
            )
        except ValueError:
            raise invalid("query", "is malformed") from None
        values: dict[str, str] = {}
        for name, value in pairs:
            validator = self._query.get(name)
            if validator is None:
                raise invalid(name[:_SHOWN], "is not a query parameter of this operation")
            if name in values:
                raise invalid(name, "is given more than once")
            if not validator.is_valid(value):
                raise invalid(name, _cut_value(next(validator.iter_errors(value)).message))
            values[name] = value
        return values


def _validators(
    parameters: Sequence[Mapping[str, Any]], place: str
) -> dict[str, jsonschema_rs.Draft4Validator]:
    return {item["name"]: compile_schema(item["schema"]) for item in parameters if item["in"] == place}
