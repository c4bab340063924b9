"""Bytes in and out of Redis and JSON: bodies, results, times.

A task's body is the JSON array ``[payload]`` or ``[payload,metadata]`` made of the byte slices
that were sent, so that an integer beyond 64 bits comes back as it went in. What trace it belongs
to may come third; the metadata is ``null`` then if there is none.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999
_CUT: Final = " [cut]"

#: Stricter than ``datetime.fromisoformat``, which takes dates alone, basic format and weeks.
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d+))?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)

_NULL: Final = b"null"
#: W3C Trace Context: ids of zeros are none, there is no version ff, and one to come may say more.
_TRACE_IDS: Final = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT: Final = re.compile(rf"00{_TRACE_IDS}|(?!00|ff)[0-9a-f]{{2}}{_TRACE_IDS}(-.*)?")
_TRACEPARENT_LENGTH: Final = 55


class _Slices(msgspec.Struct, array_like=True):
    payload: msgspec.Raw
    metadata: msgspec.Raw = msgspec.Raw(b"")
    traceparent: str = ""


class _Values(msgspec.Struct, array_like=True):
    payload: Any
    metadata: dict[str, str] | None = None


_slices = msgspec.json.Decoder(_Slices)
_values = msgspec.json.Decoder(_Values)
_encoder = msgspec.json.Encoder()


def encode_body(payload: bytes, metadata: bytes, traceparent: str = "") -> bytes:
    """Join the JSON slices of a submission into the stored body."""
    if traceparent:
        return b'[%b,%b,"%b"]' % (payload, metadata or _NULL, traceparent.encode())
    return b"[%b,%b]" % (payload, metadata) if metadata else b"[%b]" % payload


def split_body(body: bytes) -> tuple[bytes, bytes, str]:
    """Return the payload and metadata slices of a stored body, and its trace; "" when absent."""
    slices = _slices.decode(body)
    metadata = bytes(slices.metadata)
    return bytes(slices.payload), b"" if metadata == _NULL else metadata, slices.traceparent


def decode_body(body: bytes) -> tuple[Any, dict[str, str]]:
    """Return the payload and metadata of a stored body as Python values."""
    values = _values.decode(body)
    return values.payload, values.metadata or {}


def parse_traceparent(text: str) -> str:
    """Return a W3C ``traceparent`` in the form of version 00, "" when it is none.

    Who sends one that is broken has no trace, as if it had sent nothing: that is no error.
    """
    if _TRACEPARENT.fullmatch(text) is None:
        return ""
    return f"00{text[2:_TRACEPARENT_LENGTH]}"


def encode_result(value: object) -> bytes:
    """Encode a handler's result.

    Raises:
        TypeError: the value, or something inside it, has no JSON form.
        ValueError: the value nests too deep or holds an unpaired surrogate.
    """
    try:
        return _encoder.encode(value)
    except RecursionError:
        raise ValueError("the result nests too deep or refers to itself") from None


def format_time(milliseconds: int) -> str:
    """Return a time as RFC 3339 UTC with exactly three digits of milliseconds."""
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Return a time up to its seconds: most that are written are of the last few seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def parse_time(text: str) -> int:
    """Return an RFC 3339 time with a zone as milliseconds, a finer fraction rounded up.

    Raises:
        ValueError: no RFC 3339 time, one without a zone, or one beyond the years 1 to 9999 in UTC.
            There are no leap seconds here: ``:60`` is refused.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("no RFC 3339 time such as 2024-01-15T12:00:00Z")
    day, clock, fraction, zone = match.groups()
    if zone is None:
        raise ValueError("the time has no zone: end it with Z or +hh:mm")
    since = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}") - _EPOCH
    milliseconds = (since.days * 86_400 + since.seconds) * 1000
    digits = (fraction or "").ljust(3, "0")
    milliseconds += int(digits[:3]) + bool(digits[3:].strip("0"))
    if not _FIRST_MS <= milliseconds <= _LAST_MS:
        raise ValueError("the time is beyond the years 1 to 9999")
    return milliseconds


def trim_text(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` UTF-8 bytes, the cut marked, surrogates replaced."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    marker = _CUT if limit >= len(_CUT) else ""
    return raw[: limit - len(marker)].decode("utf-8", "ignore") + marker
