"""What one call of a handler came to, in the form in which it is stored: bytes and text."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Final

import msgspec

from taskqueue_core.codec import encode_result, trim_text
from taskqueue_core.plugin.control import DropTask, NonRetryable, RetryTask

#: Longest error text and traceback that are kept, in bytes.
ERROR_LIMIT: Final = 4096
TRACEBACK_LIMIT: Final = 16_384
#: Longest name of its type, in bytes.
NAME_LIMIT: Final = 256


def encoded(value: object, limit: int) -> bytes:
    """Return a handler's result as JSON; ``limit`` is in bytes.

    Raises:
        NonRetryable: the value has no JSON form or is too large, which a retry cannot change.
    """
    try:
        result = encode_result(value)
        if b"null" in result and value is not None:
            _refuse_nan(value)
    except (TypeError, ValueError) as error:
        raise NonRetryable(f"the result cannot be stored as JSON: {error}") from error
    if len(result) > limit:
        raise NonRetryable(
            f"the result has {len(result)} bytes, worker.maxresultbytes allows {limit}"
        )
    return result


def described(error: BaseException) -> str:
    """Return the text of what a handler raised, as it is shown, at most ``ERROR_LIMIT`` long."""
    return trim_text(_text(error), ERROR_LIMIT)


def named(error: BaseException) -> str:
    """Return the name of the type of what a handler raised, with its module unless built in."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return trim_text(f"{module}{kind.__qualname__}", NAME_LIMIT)


def traced(error: BaseException) -> str:
    """Return the traceback of what a handler raised, at most ``TRACEBACK_LIMIT`` long."""
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 (it asks a handler's exception for its text and its notes)
        lines = ""
    return trim_text(lines, TRACEBACK_LIMIT)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 (an exception of a handler may be broken itself)
        text = "its text cannot be shown"
    if isinstance(error, (RetryTask, DropTask, NonRetryable)):
        return text
    if isinstance(error, asyncio.CancelledError):
        return "the handler cancelled itself"
    return text if type(error) is Exception and text else f"{type(error).__name__}: {text}"


def _refuse_nan(value: object) -> None:
    """Raise ValueError for NaN and infinities, which the encoder turns into ``null`` unasked."""
    json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False)
