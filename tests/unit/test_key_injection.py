"""Nothing that a client names reaches a key but as one part of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskqueue_core.keys import Keys, id_to_hex, parse_task_id
from taskqueue_core.models import is_name

KEYS = Keys("shop", 7)
#: Everything that means something in a key, a pattern or the protocol, among other characters.
CHARACTERS = st.sampled_from("aZ9._-:{}*?[]\\ \r\n\0\u00e4\u0661") | st.characters()
TEXTS = st.text(CHARACTERS, max_size=70)
#: The kinds of keys that a name is part of, each with the number of its parts.
NAMED = {
    "q": lambda name: KEYS.stream(name, 1),
    "wake": KEYS.bell,
    "hold": KEYS.held,
    "w": KEYS.worker,
    "ctl": KEYS.control,
    "call": KEYS.own_bell,
}


@pytest.mark.parametrize("kind", NAMED)
@settings(max_examples=300, deadline=None)
@given(name=TEXTS | st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.-]{0,63}\Z"))
def test_names(kind: str, name: str) -> None:
    """A name that is accepted makes one key of its kind, in the slot of its partition."""
    if not is_name(name):
        return
    key = NAMED[kind](name)
    prefix, tag, rest = re.fullmatch(r"(tq:)\{([^{}]*)\}:(.*)", key, re.DOTALL).groups()  # type: ignore[union-attr]
    assert (prefix, tag) == ("tq:", "shop.7")
    assert rest.split(":") == [kind, name, *(["1"] if kind == "q" else [])]
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


@settings(max_examples=500, deadline=None)
@given(text=TEXTS | st.uuids().map(str) | st.uuids().map(lambda one: str(one).upper()))
def test_ids(text: str) -> None:
    """An id that is accepted is 32 hexadecimal digits in a key, however it was spelled."""
    task_id = parse_task_id(text)
    if task_id is None:
        return
    assert task_id == text.lower()
    assert re.fullmatch(r"tq:\{shop\.7\}:t:[0-9a-f]{32}", KEYS.task(id_to_hex(task_id)))


@settings(max_examples=500, deadline=None)
@given(name=TEXTS)
def test_what_is_no_name(name: str) -> None:
    """The rule and its pattern agree, also where a pattern alone would be fooled by a newline."""
    assert is_name(name) == bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", name))
