"""Requests against the contract: bodies, parameters, and the sentence that says what is wrong.

A body is parsed twice, because no parser sees everything: msgspec keeps integers of any size and
refuses what is not JSON, jiter refuses duplicate keys and nesting deeper than 200.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl

import jiter
import jsonschema_rs
import msgspec

from taskqueue_server.messages import Body, Scope, find_header
from taskqueue_server.problems import ProblemError, invalid

_JSON_TYPE: Final = re.compile(rb'application/json\s*(;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)
_SHOWN: Final = 200


class SchemaValidator:
    """A schema of the contract, compiled once; its references are resolved."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _compiled(msgspec.json.encode(schema))
        self._description = str(schema.get("description", "")).strip()

    def check(self, value: Any, name: str = "") -> None:
        """Raise ``ProblemError`` with field and rule unless ``value`` fits the schema.

        ``name`` is what the value is called, unless it is a body.
        """
        if not self._validator.is_valid(value):
            raise self._explain(self._first_error(value), name)

    def _first_error(self, value: Any) -> jsonschema_rs.ValidationError:
        """Return one error; ``iter_errors`` finds all before it gives the first: many seconds."""
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            # The traceback would hold on to the value.
            return error.with_traceback(None)
        raise AssertionError("an invalid value has an error")

    def _explain(self, error: jsonschema_rs.ValidationError, name: str) -> ProblemError:
        kind, more = error.kind, list[str]()
        path = [*filter(None, [name]), *(str(part) for part in error.instance_path)]
        match kind:
            case jsonschema_rs.ValidationErrorKind.OneOfNotValid():
                # The one form that only a part of the value does not fit is the one that is meant.
                near = [errors for errors in kind.context if all(e.instance_path for e in errors)]
                if len(near) == 1:
                    return self._explain(near[0][0], name)
                rule = f"must be {self._description}"
            case jsonschema_rs.ValidationErrorKind.OneOfMultipleValid():
                rule = f"must be {self._description}"
            case _:
                more, rule = rule_of(error)
        return invalid("/".join([*path, *more])[:_SHOWN] or "body", rule)


def rule_of(error: jsonschema_rs.ValidationError) -> tuple[list[str], str]:
    """Return which rule a value breaks, and the field inside it that the rule is about, if any."""
    kind = error.kind
    match kind:
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties():
            return [kind.unexpected[0]], "is not a field of the contract"
        case jsonschema_rs.ValidationErrorKind.Required():
            return [kind.property], "is required"
        case jsonschema_rs.ValidationErrorKind.Enum():
            options = [_shown(option) for option in kind.options if option is not None]
            return [], f"must be one of {', '.join(options)}"
        case jsonschema_rs.ValidationErrorKind.Format():
            return [], _FORMATS.get(kind.format, f"must be a {kind.format}")
    return [], _cut_value(error.message)


def _shown(option: Any) -> str:
    return option if isinstance(option, str) else msgspec.json.encode(option).decode()


_FORMATS: Final = {
    "date-time": "must be an RFC 3339 time with a zone, such as 2026-01-15T12:00:00Z"
}


@cache
def _compiled(schema: bytes) -> jsonschema_rs.Draft4Validator:
    """Return the validator of a schema, which many operations may share."""
    plain = _to_draft4(msgspec.json.decode(schema))
    return jsonschema_rs.Draft4Validator(plain, validate_formats=True)


def _to_draft4(schema: Any) -> Any:
    """Return a schema with OpenAPI's ``nullable`` spelled as JSON Schema has it."""
    if isinstance(schema, list):
        return [_to_draft4(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _to_draft4(value) for name, value in schema.items()}
    if plain.get("nullable") is True:
        del plain["nullable"]
        if "type" in plain:
            plain["type"] = [plain["type"], "null"]
        if "enum" in plain:
            plain["enum"] = [*plain["enum"], None]
    return plain


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
    except (ValueError, msgspec.MsgspecError) as error:
        raise invalid("body", f"is no valid JSON: {_reason(error)}") from None
    return Body(values, raw)


def _reason(error: Exception) -> str:
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
        self._headers = _validators(parameters, "header")
        self._schemas = {item["name"]: item["schema"] for item in parameters}

    def check_path(self, values: Mapping[str, str]) -> None:
        """Raise ``ProblemError`` when a part of the path breaks a rule."""
        for name, validator in self._path.items():
            validator.check(values[name], name)

    def parse_query(self, scope: Scope) -> dict[str, Any]:
        """Return the query, its values of the types that the contract names.

        Unknown and repeated parameters are refused.
        """
        raw: bytes = scope["query_string"]
        if not raw:
            return {}
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100
            )
        except ValueError:
            raise invalid("query", "is malformed") from None
        values: dict[str, Any] = {}
        for name, value in pairs:
            if name not in self._query:
                raise invalid(name[:_SHOWN], "is not a query parameter of this operation")
            if name in values:
                raise invalid(name, "is given more than once")
            values[name] = _convert(value, self._schemas[name], name)
            self._query[name].check(values[name], name)
        return values

    def parse_headers(self, scope: Scope) -> dict[str, str]:
        """Return the headers that the contract names, by those names; repeated ones are refused."""
        values: dict[str, str] = {}
        for name, validator in self._headers.items():
            lowered = name.lower().encode()
            given = [value for key, value in scope["headers"] if key == lowered]
            if len(given) > 1:
                raise invalid(name, "is given more than once")
            if given:
                values[name] = given[0].decode("latin-1")
                validator.check(values[name], name)
        return values


_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?")


def _convert(text: str, schema: Mapping[str, Any], name: str) -> Any:
    """Return the text of a parameter as a value of its type; a list is separated by commas."""
    match schema.get("type"):
        case "array":
            return [_convert(item, schema["items"], name) for item in text.split(",")]
        case "boolean" if text in ("true", "false"):
            return text == "true"
        case "boolean":
            raise invalid(name, "must be true or false")
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "integer":
            raise invalid(name, "must be a whole number")
        case "number" if _DECIMAL.fullmatch(text):
            return float(text)
        case "number":
            raise invalid(name, "must be a number such as 1.5")
    return text


def _validators(parameters: Sequence[Mapping[str, Any]], place: str) -> dict[str, SchemaValidator]:
    return {
        item["name"]: SchemaValidator(item["schema"]) for item in parameters if item["in"] == place
    }
