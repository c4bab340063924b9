"""Bodies, results, times and trimmed texts."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskqueue_core.codec import (
    decode_body,
    encode_body,
    encode_result,
    format_time,
    parse_time,
    parse_traceparent,
    split_body,
    trim_text,
)

NOON = 1_705_320_000_000  # 2024-01-15T12:00:00Z


@pytest.mark.parametrize(
    ("payload", "metadata", "body"),
    [
        (b"{}", b"", b"[{}]"),
        (b'{"a":1}', b'{"k":"v"}', b'[{"a":1},{"k":"v"}]'),
        (b'{"n":123456789012345678901234567890}', b"", b'[{"n":123456789012345678901234567890}]'),
        (b'{"n":1.10,"e":1E400}', b"{}", b'[{"n":1.10,"e":1E400},{}]'),
        (b'{"a":1,"a":2}', b"", b'[{"a":1,"a":2}]'),
        (b'{"text":"],[\\u00e9"}', b'{"k":"]"}', b'[{"text":"],[\\u00e9"},{"k":"]"}]'),
    ],
)
def test_a_body_gives_back_the_very_bytes(payload: bytes, metadata: bytes, body: bytes) -> None:
    assert encode_body(payload, metadata) == body
    assert split_body(body) == (payload, metadata, "")


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("metadata", "body"),
    [
        (b"", f'[{{"n":1.10}},null,"{TRACEPARENT}"]'),
        (b"{}", f'[{{"n":1.10}},{{}},"{TRACEPARENT}"]'),
        (b'{"k":"v"}', f'[{{"n":1.10}},{{"k":"v"}},"{TRACEPARENT}"]'),
    ],
)
def test_a_body_carries_its_trace_beside_the_very_bytes(metadata: bytes, body: str) -> None:
    """Metadata that was sent empty and metadata that was not sent stay two things."""
    stored = encode_body(b'{"n":1.10}', metadata, TRACEPARENT)
    assert stored == body.encode()
    assert split_body(stored) == (b'{"n":1.10}', metadata, TRACEPARENT)
    assert decode_body(stored) == ({"n": 1.1}, {"k": "v"} if b"k" in metadata else {})


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (TRACEPARENT, TRACEPARENT),
        (TRACEPARENT[:-2] + "00", TRACEPARENT[:-2] + "00"),
        ("01" + TRACEPARENT[2:] + "-what-comes-next", TRACEPARENT),
        ("", ""),
        (TRACEPARENT + "-more", ""),
        ("cc" + TRACEPARENT[2:] + "more", ""),
        ("ff" + TRACEPARENT[2:], ""),
        (TRACEPARENT.upper(), ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", ""),
        (TRACEPARENT[:-1], ""),
        (TRACEPARENT + "\n", ""),
        ('00-"],{}', ""),
    ],
)
def test_a_traceparent_is_taken_in_one_form_or_not_at_all(text: str, parsed: str) -> None:
    assert parse_traceparent(text) == parsed


def test_a_body_becomes_python_values_with_all_their_digits() -> None:
    body = b'[{"n":123456789012345678901234567890},{"k":"v"}]'
    assert decode_body(body) == ({"n": 123456789012345678901234567890}, {"k": "v"})
    assert decode_body(b"[{}]") == ({}, {})


def test_values_of_two_bodies_share_nothing() -> None:
    decode_body(b"[{}]")[1]["k"] = "v"
    assert decode_body(b"[{}]") == ({}, {})


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"{}", b"[{}] x", b"nil"])
def test_what_is_no_body_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the text is msgspec's
        split_body(body)
    with pytest.raises(ValueError):  # noqa: PT011 -- the text is msgspec's
        decode_body(body)


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, True]}, b'{"a":[1,2.5,true]}'),
        (2**70, b"1180591620717411303424"),
        (float("nan"), b"null"),
        (Point(1), b'{"x":1}'),
        (datetime(2024, 1, 15, tzinfo=UTC), b'"2024-01-15T00:00:00Z"'),
        ("é", '"é"'.encode()),
    ],
)
def test_a_result_is_encoded_once(value: object, encoded: bytes) -> None:
    assert encode_result(value) == encoded


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): 3}])
def test_a_result_without_a_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode_result(value)


def test_a_result_that_cannot_be_written_down_is_refused() -> None:
    items: list[object] = []
    items.append(items)
    with pytest.raises(ValueError, match="nests too deep or refers to itself"):
        encode_result(items)
    with pytest.raises(ValueError, match="surrogates"):
        encode_result("\ud800")


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2024-01-15T12:00:00Z", NOON),
        ("2024-01-15t12:00:00z", NOON),
        ("2024-01-15T12:00:00+00:00", NOON),
        ("2024-01-15T12:00:00-00:00", NOON),
        ("2024-01-15T13:30:00+01:30", NOON),
        ("2024-01-14T12:01:00-23:59", NOON),
        ("2024-01-15T12:00:00.1Z", NOON + 100),
        ("2024-01-15T12:00:00.123Z", NOON + 123),
        ("2024-01-15T12:00:00.123000000Z", NOON + 123),
        ("2024-01-15T12:00:00.1230001Z", NOON + 124),
        ("2024-01-15T12:00:00.0000000001Z", NOON + 1),
        ("2024-01-15T12:00:00.9999Z", NOON + 1000),
        ("1969-12-31T23:59:59.9995Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_a_time_is_read_and_a_finer_fraction_rounded_up(text: str, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2024-01-15",
        "20240115T120000Z",
        "2024-W03-1T12:00:00Z",
        "2024-01-15T12Z",
        "2024-01-15T12:00Z",
        "2024-01-15 12:00:00Z",
        "2024-01-15T12:00:00,5Z",
        "2024-01-15T12:00:00.Z",
        "2024-01-15T12:00:00+0100",
        "2024-01-15T12:00:00+01",
        "2024-01-15T12:00:00+01:00:30",
        "2024-01-15T12:00:00+24:00",
        "2024-01-15T12:00:00+01:60",
        "2024-01-15T24:00:00Z",
        "2024-01-15T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "2024-1-15T12:00:00Z",
        "+2024-01-15T12:00:00Z",
        " 2024-01-15T12:00:00Z",
        "2024-01-15T12:00:00Z\n",
        "\u0662024-01-15T12:00:00Z",
        "1705320000",
    ],
)
def test_what_is_no_rfc_3339_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no RFC 3339 time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024-01-15T12:00:00", "has no zone"),
        ("2024-01-15T12:00:00.5", "has no zone"),
        ("2023-02-29T12:00:00Z", "day is out of range|day 29 must be"),
        ("2024-13-01T12:00:00Z", "month must be"),
        ("0000-01-01T00:00:00Z", "year 0 is out of range|year must be"),
        ("9999-12-31T23:59:59.9991Z", "beyond the years"),
        ("9999-12-31T23:59:59-00:01", "beyond the years"),
        ("0001-01-01T00:00:00+00:01", "beyond the years"),
    ],
)
def test_a_refused_time_is_told_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_time(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (NOON + 7, "2024-01-15T12:00:00.007Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_shown_with_three_digits(milliseconds: int, text: str) -> None:
    assert format_time(milliseconds) == text


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
@settings(deadline=None)
def test_a_shown_time_can_be_read_back(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds)) == milliseconds


@given(text=st.text(st.characters()), limit=st.integers(0, 40))
@settings(deadline=None)
def test_a_trimmed_text_fits_and_begins_like_the_text(text: str, limit: int) -> None:
    """Also for surrogates, and for limits smaller than the mark of the cut."""
    trimmed = trim_text(text, limit)
    whole = text.encode("utf-8", "replace").decode()
    assert len(trimmed.encode()) <= limit
    if len(whole.encode()) <= limit:
        assert trimmed == whole
    else:
        assert whole.startswith(trimmed.removesuffix(" [cut]"))
        assert trimmed.endswith(" [cut]") == (limit >= 6)
        assert len(trimmed.encode()) > limit - 4


@pytest.mark.parametrize(
    ("text", "limit", "trimmed"),
    [
        ("short", 5, "short"),
        ("too long for it", 10, "too  [cut]"),
        ("ééééééé", 11, "éé [cut]"),
        ("a\ud800b", 10, "a?b"),
        ("abcdef", 3, "abc"),
        ("abc", 0, ""),
    ],
)
def test_a_cut_is_marked(text: str, limit: int, trimmed: str) -> None:
    assert trim_text(text, limit) == trimmed
