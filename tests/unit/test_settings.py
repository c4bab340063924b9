"""The values settings are written as, and their rules that need no source."""

from __future__ import annotations

import pytest

from taskqueue_core.models import NAME_PATTERN
from taskqueue_core.settings import (
    _NAME_PATTERN,
    Settings,
    format_duration,
    parse_duration,
    redact_url,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("700ms", 0.7),
        ("250us", 0.00025),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("30", 30.0),
        (" 2.5 ", 2.5),
        (30, 30.0),
        (0.25, 0.25),
        (1e-05, 1e-05),
    ],
)
def test_durations_are_read_as_go_writes_them(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5x", "5 m", "1h 30m", "-5s", -1, "nan", "inf", "1_0", True, None, [], "5m!"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0, 60.0, 90.0, 3600.0, 86_399.0, 5400.25])
def test_a_duration_is_shown_as_it_can_be_read(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:1/0", "redis://host:1/0"),
        ("redis://:a@b/c@host", "redis://***@host"),
        ("redis://host?username=u&password=p&db=1", "redis://host?username=***&password=***&db=1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1


def test_settings_made_by_hand_are_checked_too_and_errors_hide_what_was_given() -> None:
    with pytest.raises(ValueError, match="valid integer") as caught:
        Settings.model_validate({"redis": {"db": "hush"}})
    assert "hush" not in str(caught.value)
    with pytest.raises(ValueError, match="not permitted"):
        Settings.model_validate({"queue": {"nmaespace": "x"}})


def test_names_follow_the_rule_of_the_models() -> None:
    assert _NAME_PATTERN == NAME_PATTERN
