"""Payloads against the JSON Schemas that workers publish, in bounded time.

A payload that fits here may still be refused by its worker, which has the last word: formats and
what only code can say are not looked at, nor is a payload whose check might take too long.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import jsonschema_rs
import structlog

from taskqueue_core.errors import InvalidTaskError
from taskqueue_core.plugin.schemas import Schema, check_schema
from taskqueue_server.validation import rule_of

#: Most looks at parts of one payload, at some 50 ns each; a part has at least two bytes.
_LOOKS: Final = 4_000_000
_BYTES_PER_PART: Final = 2
#: Most parts of a payload that are gone through to find out what is wrong with it.
_VISITS: Final = 20_000
_SHOWN: Final = 200

#: Patterns of this engine take a time that grows with the text only.
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1_000_000)

#: Keywords that say something about a value as a whole.
_SIMPLE: Final = (
    *("type", "enum", "const", "required", "pattern", "minLength", "maxLength", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
    *("uniqueItems", "minProperties", "maxProperties"),
)

_log = structlog.get_logger(__name__)


def _no_fetching(reference: str) -> Any:
    raise ValueError(f"{reference} is not part of the schema")


def _compile(schema: Schema) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        schema, pattern_options=_PATTERNS, retriever=_no_fetching, validate_formats=False
    )


class PayloadCheck:
    """The schema of one task type's payloads, compiled when it is first needed."""

    def __init__(self, task_type: str, schema: Schema) -> None:
        self._task_type = task_type
        self._schema = schema

    def check(self, payload: Any, size: int) -> None:
        """Raise InvalidTaskError unless a payload of ``size`` bytes fits."""
        if self._compiled is None:
            return
        validator, spread = self._compiled
        if spread * size > _LOOKS * _BYTES_PER_PART or validator.is_valid(payload):
            return
        try:
            found = _Finder(self._schema).find(self._schema, payload, ("payload",))
        except _TooMuchError:
            found = None
        raise found or InvalidTaskError(
            "payload",
            f"does not fit the schema of the task type {self._task_type}, "
            "which GET /api/v1/task-types shows",
        )

    @cached_property
    def _compiled(self) -> tuple[jsonschema_rs.Draft202012Validator, int] | None:
        """The validator, and how often it may look at a value; ``None`` where it cannot be had."""
        try:
            spread = check_schema(self._schema)
            return _compile(self._schema), spread
        except Exception as error:  # noqa: BLE001 (a schema comes from another process, as anything)
            _log.warning(
                "payloads of this type are not checked here: its schema cannot be used",
                task_type=self._task_type,
                error=str(error)[:_SHOWN],
            )
            return None


class _TooMuchError(Exception):
    """Raised when it would take too long to find out what is wrong."""


Path = tuple[str, ...]


class _Finder:
    """Finds the part of a payload that does not fit, without trying all that could be wrong.

    The validator could list every error; with many of them that takes a time without bound.
    """

    def __init__(self, schema: Schema) -> None:
        self._definitions = {
            f"#/{word}/{name.replace('~', '~0').replace('/', '~1')}": part
            for word in ("$defs", "definitions")
            for name, part in schema.get(word, {}).items()
        }
        self._visits = 0
        self._simple: dict[int, jsonschema_rs.Draft202012Validator] = {}

    def find(self, schema: Any, value: Any, path: Path) -> InvalidTaskError | None:
        """Return what is wrong with a value, ``None`` when that was not found."""
        self._visits += 1
        if self._visits > _VISITS:
            raise _TooMuchError
        if schema is False:
            return _problem(path, "is not allowed here")
        if not isinstance(schema, dict):
            return None
        found = self._find_here(schema, value, path)
        if found is None:
            for part, inner, where in self._below(schema, value, path):
                found = self.find(part, inner, where)
                if found is not None:
                    break
        return found

    def _find_here(self, schema: Schema, value: Any, path: Path) -> InvalidTaskError | None:
        validator = self._simple.get(id(schema))
        if validator is None:
            simple: Schema = {word: schema[word] for word in _SIMPLE if word in schema}
            validator = self._simple[id(schema)] = _compile(simple)
        if validator.is_valid(value):
            return None
        more, rule = rule_of(next(validator.iter_errors(value)))
        return _problem((*path, *more), rule)

    def _below(self, schema: Schema, value: Any, path: Path) -> Iterator[tuple[Any, Any, Path]]:
        """Yield (schema, value, path) of what else must hold."""
        if "$ref" in schema:
            yield self._definitions.get(schema["$ref"]), value, path
        for part in schema.get("allOf", ()):
            yield part, value, path
        for word in ("anyOf", "oneOf"):
            chosen = self._choose(schema.get(word, []), value)
            if chosen is not None:
                yield chosen, value, path
        if isinstance(value, dict):
            known = schema.get("properties", {})
            others = schema.get("additionalProperties") if "patternProperties" not in schema else {}
            for name, inner in value.items():
                yield known.get(name, others), inner, (*path, name)
        elif isinstance(value, list):
            first = schema.get("prefixItems", [])
            rest = schema.get("items")
            for index, inner in enumerate(value):
                part = first[index] if index < len(first) else rest
                yield part, inner, (*path, str(index))

    def _choose(self, alternatives: list[Any], value: Any) -> Any:
        """Return the alternative that the value was meant for, if there is no doubt."""
        meant = []
        for one in alternatives:
            part = one
            while isinstance(part, dict) and "$ref" in part:
                part = self._definitions.get(part["$ref"])
            if isinstance(part, dict) and part.get("type") != "null" and _is_meant(part, value):
                meant.append(part)
        return meant[0] if len(meant) == 1 else None


def _is_meant(part: Schema, value: Any) -> bool:
    """Tell whether a value has what an alternative says is always the same, such as a tag."""
    for name, inner in part.get("properties", {}).items():
        options = [inner["const"]] if "const" in inner else inner.get("enum", [])
        if len(options) == 1 and (not isinstance(value, dict) or value.get(name) != options[0]):
            return False
    return value is not None


def _problem(path: Path, rule: str) -> InvalidTaskError:
    return InvalidTaskError("/".join(path)[:_SHOWN], rule)
