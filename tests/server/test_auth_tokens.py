"""Tokens: which are ours, for whom, and until when."""

from __future__ import annotations

import base64
import hmac
import json
import warnings
from hashlib import sha256
from typing import Any

import jwt
import pytest
from credentials import SECRET

from taskqueue_core.settings import AuthSettings
from taskqueue_server.principal import Principal
from taskqueue_server.tokens import MAX_REMEMBERED, MAX_TOKEN_BYTES, Tokens

NOW = 1_700_000_000
CLAIMS = {"sub": "alice", "exp": NOW + 60}


def encoded(part: object) -> str:
    """Return one part of a token."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(claims: object, *, header: object = None, secret: str = SECRET) -> bytes:
    """Return a token with any header and claims, rightly signed with HS256."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    text = f"{encoded(head)}.{encoded(claims)}"
    signature = hmac.new(secret.encode(), text.encode(), "sha256").digest()
    return f"{text}.{encoded(signature)}".encode()


class Verifier:
    """Tokens of one configuration, and a clock."""

    def __init__(self, **settings: Any) -> None:
        self.now = float(NOW)
        chosen = AuthSettings(enabled=True, **{"jwt_secret": SECRET, **settings})
        self.tokens = Tokens(chosen, lambda: int(self.now * 1000))

    def find(self, token: bytes) -> Principal | None:
        """Return whom a token was made for."""
        return self.tokens.find(token, sha256(token).digest())


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, Principal("jwt:alice", frozenset())),
        ({"scope": "tasks:read metrics"}, ({"tasks:read", "metrics"}, "")),
        ({"scope": ["tasks:write"], "owner": "acme"}, ({"tasks:write"}, "acme")),
        ({"scope": "openid admin  Tasks:read", "owner": None}, ({"admin"}, "")),
        ({"scope": [1, None, ["admin"], "metrics"]}, ({"metrics"}, "")),
        ({"nbf": NOW, "iat": NOW + 100, "jti": "x"}, (set(), "")),
        ({"exp": NOW + 0.5}, (set(), "")),
    ],
)
def test_whom_a_token_names(claims: dict[str, Any], expected: Any) -> None:
    """Subject, scopes and owner are those of the claims; scopes of others are nothing to us."""
    if isinstance(expected, tuple):
        expected = Principal("jwt:alice", frozenset(expected[0]), expected[1])
    assert Verifier().find(sign({**CLAIMS, **claims})) == expected


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None}, {"exp": NOW}, {"exp": NOW - 1}, {"exp": True}, {"exp": str(NOW + 60)},
        {"exp": [NOW + 60]}, {"exp": float("nan")}, {"exp": -1},
        {"nbf": NOW + 1}, {"nbf": str(NOW - 1)}, {"nbf": None},
        {"sub": None}, {"sub": ""}, {"sub": 1}, {"sub": "a" * 129},
        {"owner": ""}, {"owner": 1}, {"owner": "a b"}, {"owner": "a" * 65}, {"owner": ["acme"]},
        {"scope": 1}, {"scope": {"admin": True}}, {"scope": True},
        {"aud": "another-service"}, {"aud": ["another-service"]},
    ],
)  # fmt: skip
def test_claims_that_do_not_do(claims: dict[str, Any]) -> None:
    """A token whose claims are missing, odd, over, to come, or meant for others is none."""
    assert Verifier().find(sign({**CLAIMS, **claims})) is None


@pytest.mark.parametrize("missing", ["exp", "sub"])
def test_required_claims(missing: str) -> None:
    """Without an end or a subject a token is none."""
    claims = {name: value for name, value in CLAIMS.items() if name != missing}
    assert Verifier().find(sign(claims)) is None


def _headers() -> list[object]:
    algorithms = ["none", "None", "NONE", "hs256", "HS384", "HS512", "RS256", "ES256", "", None, 1]
    return [
        *({"alg": name} for name in algorithms),
        {"typ": "JWT"},
        {"alg": "HS256", "crit": ["exp"], "exp": NOW},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
        [],
        "HS256",
        b"not json",
        b"[" * 2_000,
        b"",
    ]


@pytest.mark.parametrize("header", _headers())
def test_headers_that_do_not_do(header: object) -> None:
    """One algorithm is accepted, whatever the token says about itself."""
    assert Verifier().find(sign({**CLAIMS, "scope": "admin"}, header=header)) is None


def test_hints_where_a_key_may_be_are_not_followed() -> None:
    """A token brings no key along: what it says about keys changes nothing."""
    hints = {"alg": "HS256", "kid": "../../etc/passwd", "jku": "https://evil.example", "jwk": {}}
    forged = sign({**CLAIMS, "scope": "admin"}, header=hints, secret="x" * 32)
    assert Verifier().find(forged) is None


def _damaged() -> list[bytes]:
    good = sign({**CLAIMS, "scope": "admin"})
    head, claims, signature = good.split(b".")
    more = encoded({**CLAIMS, "scope": "admin", "owner": "x"}).encode()
    return [
        b"",
        b"..",
        b".".join([head, claims, b""]),
        b".".join([head, more, signature]),
        b".".join([head, claims, signature, b""]),
        b".".join([head, claims]),
        good[:-1],
        good + b"\xff",
        good.replace(b".", b"\x00."),
        sign(CLAIMS, secret="x" * 32),
        sign(CLAIMS, secret=""),
        sign([]),
        sign(b"not json"),
        sign(b"[" * 2_000),
        sign({**CLAIMS, "more": "x" * MAX_TOKEN_BYTES}),
    ]


@pytest.mark.parametrize("damaged", _damaged())
def test_damaged_and_forged_tokens(damaged: bytes) -> None:
    """Whatever is not signed as a whole with the secret is none, and nothing breaks."""
    assert Verifier().find(damaged) is None


def test_without_a_secret_there_are_no_tokens() -> None:
    """An empty secret would let everybody sign."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library says so, too
        unsigned = jwt.encode(CLAIMS, "", algorithm="none").encode()
    for token in (sign(CLAIMS, secret=""), unsigned, sign(CLAIMS)):
        assert Verifier(jwt_secret="").find(token) is None


@pytest.mark.parametrize(
    ("claims", "is_ours"),
    [
        ({"iss": "us", "aud": "queue"}, True),
        ({"iss": "us", "aud": ["other", "queue"]}, True),
        ({"iss": "us"}, False),
        ({"aud": "queue"}, False),
        ({"iss": "them", "aud": "queue"}, False),
        ({"iss": "us", "aud": "other"}, False),
        ({"iss": ["us"], "aud": "queue"}, False),
    ],
)
def test_issuer_and_audience(claims: dict[str, Any], *, is_ours: bool) -> None:
    """Where the settings name them, a token has to."""
    verifier = Verifier(jwt_issuer="us", jwt_audience="queue")
    assert (verifier.find(sign({**CLAIMS, **claims})) is not None) == is_ours


def test_remembered_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid token is verified once; its end comes all the same."""
    verifier = Verifier()
    token = sign(CLAIMS)
    first = verifier.find(token)
    monkeypatch.setattr(jwt, "decode", None)
    verifier.now = NOW + 59.9
    assert verifier.find(token) is first is not None
    verifier.now = NOW + 60
    assert verifier.find(token) is None


def test_memory_is_bounded() -> None:
    """However many tokens there are, the oldest are forgotten; bad ones are not remembered."""
    verifier = Verifier()
    for number in range(MAX_REMEMBERED + 20):
        verifier.find(sign({**CLAIMS, "sub": f"user-{number}"}))
        verifier.find(b"a.b.%d" % number)
    assert len(verifier.tokens._remembered) == MAX_REMEMBERED
    assert verifier.find(sign({**CLAIMS, "sub": "user-0"})) is not None
