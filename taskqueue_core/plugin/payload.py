"""From a handler's payload annotation to a validating decoder and a JSON Schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import msgspec

from taskqueue_core.plugin.control import InvalidPayload
from taskqueue_core.plugin.schemas import Schema, check_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadType:
    """How payloads of one handler are checked.

    ``decode`` takes the payload as JSON values, returns what the handler gets and raises
    ``InvalidPayload``. ``schema`` is the JSON Schema of what ``decode`` accepts.
    """

    decode: Callable[[Any], Any]
    schema: Schema


def payload_type(annotation: Any) -> PayloadType:
    """Build the payload type of an annotation.

    Raises:
        TypeError: nothing here can validate that annotation, or it describes no JSON object.
        ValueError: its schema may not be published, see ``check_schema``.
    """
    if annotation in (Any, object, inspect.Parameter.empty):
        return PayloadType(decode=_unchanged, schema={})
    if _is_free_form(annotation):
        return PayloadType(decode=_any_object, schema={"type": "object"})
    # Models and dataclasses of pydantic carry their validators in this attribute; msgspec would
    # take the dataclasses for plain ones and skip the validators.
    if hasattr(annotation, "__pydantic_core_schema__"):
        built = _checked_by_pydantic(annotation)
    else:
        built = _checked_by_msgspec(annotation)
    if not _describes_object(built.schema):
        raise TypeError(f"a payload is a JSON object, {annotation!r} is not")
    check_schema(built.schema)
    return built


def result_schema(annotation: Any) -> Schema:
    """Return the JSON Schema of what a handler returns, ``{}`` where its annotation tells none.

    Nothing is checked against it, so whatever is wrong with it only keeps it from being shown.
    """
    if annotation in (Any, object, None, type(None), inspect.Signature.empty):
        return {}
    try:
        if hasattr(annotation, "__pydantic_core_schema__"):
            import pydantic

            schema = pydantic.TypeAdapter[Any](annotation).json_schema(mode="serialization")
        else:
            schema = msgspec.json.schema(annotation)
        check_schema(schema)
    except Exception:  # noqa: BLE001 (building a schema runs code of the class: a plugin's boundary)
        return {}
    return schema


def _unchanged(payload: Any) -> Any:
    return payload


def _any_object(payload: Any) -> Any:
    if not isinstance(payload, dict):
        raise InvalidPayload(f"Expected `object`, got `{type(payload).__name__}` - at `$`")
    return payload


def _is_free_form(annotation: Any) -> bool:
    if (get_origin(annotation) or annotation) not in (dict, Mapping):
        return False
    return get_args(annotation) in ((), (str, Any), (str, object))


def _checked_by_msgspec(annotation: Any) -> PayloadType:
    def decode(payload: Any) -> Any:
        try:
            # str_keys: JSON has no other keys, so dict[int, ...] must accept "1".
            return msgspec.convert(payload, annotation, strict=True, str_keys=True)
        except msgspec.ValidationError as error:
            raise InvalidPayload(str(error)) from error

    return PayloadType(decode=decode, schema=msgspec.json.schema(annotation))


def _checked_by_pydantic(annotation: Any) -> PayloadType:
    import pydantic

    adapter = pydantic.TypeAdapter[Any](annotation)

    def decode(payload: Any) -> Any:
        try:
            return adapter.validate_python(payload)
        except pydantic.ValidationError as error:
            first, *others = error.errors(include_url=False, include_context=False)
            more = f" (and {len(others)} more)" if others else ""
            problem = f"{first['msg']} - at `{_path(first['loc'])}`{more}"
            raise InvalidPayload(problem) from error

    return PayloadType(decode=decode, schema=adapter.json_schema())


def _path(location: tuple[int | str, ...]) -> str:
    """Write a pydantic location the way msgspec writes paths: ``$.items[0].sku``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "$" + "".join(steps)


def _describes_object(schema: Schema) -> bool:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    top = schema.get("$defs", {}).get(name, schema)
    return bool(top.get("type", "object") == "object")
