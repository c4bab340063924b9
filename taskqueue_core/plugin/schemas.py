"""JSON Schemas of payloads and results: which may be published, and what checking one may cost.

A schema comes from annotations, so from a plugin's code, and a server checks what anybody submits
against it. It must not make the server fetch anything, run a pattern without end, or look at one
value very many times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

#: Longest schema, in bytes of JSON, and deepest one.
SCHEMA_BYTES: Final = 65_536
SCHEMA_DEPTH: Final = 64
#: Longest pattern in a schema, and most of them.
PATTERN_LENGTH: Final = 256
PATTERNS: Final = 100
#: How many times one value may have to be looked at, see ``check_schema``.
SPREAD: Final = 10_000

Schema = dict[str, Any]

#: Keywords that refer to other places, or make places that can be referred to.
_FORBIDDEN: Final = ("$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor")
_DEFINITIONS: Final = ("$defs", "definitions")

# Keywords whose value is a schema, a list of schemas, or has schemas as its values: those about the
# value itself, those of which one holds for a part of the value, and those which come on top.
_SAME: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
_PARTS: Final = ("properties", "additionalProperties", "prefixItems", "items")
_MORE: Final = (
    *("patternProperties", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas", *_DEFINITIONS)


class HandlerSchemas(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the payload and the result of a task type look like; ``{}`` where anything goes."""

    payload: Schema = {}
    result: Schema = {}

    @property
    def digest(self) -> str:
        """Return a name that the same schemas always have."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]


def check_schema(schema: Schema) -> int:
    """Check that a schema may be published; how many times it may have a value looked at.

    Each alternative that a value, or a part of it, is tried against is one more time. Alternatives
    within alternatives multiply, also where the schema is short because it refers to its parts.

    Raises:
        ValueError: it may not; the message says why.
    """
    size = len(msgspec.json.encode(schema))
    if size > SCHEMA_BYTES:
        raise ValueError(f"its schema has {size} bytes, {SCHEMA_BYTES} are allowed")
    definitions = {
        f"#/{word}/{_escaped(name)}": part
        for word in _DEFINITIONS
        for name, part in schema.get(word, {}).items()
    }
    patterns = 0
    for part in _walk(schema, SCHEMA_DEPTH):
        _check_references(part, definitions)
        for pattern in (part.get("pattern"), *part.get("patternProperties", {})):
            if pattern is None:
                continue
            patterns += 1
            if len(pattern) > PATTERN_LENGTH or patterns > PATTERNS:
                raise ValueError(
                    f"its schema has a pattern of {len(pattern)} characters, or more than "
                    f"{PATTERNS}: {PATTERN_LENGTH} characters are allowed"
                )
    try:
        spread = _Spread(definitions).of(schema)
    except RecursionError:
        raise ValueError("its schema has parts that refer to parts, too many in a row") from None
    if spread > SPREAD:
        raise ValueError(
            f"its schema has alternatives within alternatives: a value may have to be looked at "
            f"{min(spread, 10**9)} times, {SPREAD} are allowed"
        )
    return spread


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _check_references(part: Schema, definitions: Mapping[str, Any]) -> None:
    for word in _FORBIDDEN:
        if word in part:
            raise ValueError(f"its schema uses {word}: only $ref to its own $defs is allowed")
    reference = part.get("$ref")
    if reference is not None and reference not in definitions:
        raise ValueError(
            f"its schema refers to {str(reference)[:100]!r}: only to its own $defs it may"
        )


def _below(part: Schema, words: tuple[str, ...]) -> Iterator[Schema]:
    """Yield the schemas that some keywords of a schema hold; ``true`` and ``false`` say nothing."""
    for word in words:
        value = part.get(word)
        if word in _NAMED and isinstance(value, dict):
            found = list(value.values())
        else:
            found = value if isinstance(value, list) else [value]
        yield from (one for one in found if isinstance(one, dict))


def _walk(schema: Schema, depth: int) -> Iterator[Schema]:
    """Yield a schema and every schema inside it."""
    if depth == 0:
        raise ValueError(f"its schema nests deeper than {SCHEMA_DEPTH} levels")
    yield schema
    for part in _below(schema, (*_SAME, *_PARTS, *_MORE, *_DEFINITIONS)):
        yield from _walk(part, depth - 1)


class _Spread:
    """How many times the validation of a value may look at it, or at one of its parts."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        # A reference to what is being counted is one time: a validator looks at each part of a
        # value once for it.
        self._known: dict[int, int] = {}

    def of(self, schema: Schema) -> int:
        """Return the number for one schema."""
        known = self._known.get(id(schema))
        if known is None:
            self._known[id(schema)] = 1
            known = self._known[id(schema)] = self._count(schema)
        return known

    def _count(self, schema: Schema) -> int:
        one_of = max((self.of(part) for part in _below(schema, _PARTS)), default=1)
        target = self._definitions.get(schema.get("$ref", ""))
        referred = self.of(target) if isinstance(target, dict) else 0
        return one_of + referred + sum(self.of(part) for part in _below(schema, (*_SAME, *_MORE)))
