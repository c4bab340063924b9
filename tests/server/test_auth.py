"""Who is let in: keys in three places, and settings that are refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest
from checked import serve
from credentials import KEYS, SECRET, bearer, guarded, token
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import AuthSettings, ServerSettings, Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.exposure import check_auth_settings, has_credentials
from taskqueue_server.keyring import ConfiguredKeys
from taskqueue_server.messages import Message, Scope


@pytest.fixture
async def app(settings: Settings, broker: Broker) -> Application:
    """Return an application that asks who calls."""
    return create_app(guarded(settings), broker=open_broker(settings), report_seconds=3_600)


@pytest.fixture
async def guarded_client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that shows nothing by itself."""
    async with serve(app) as http:
        yield http


def _headers() -> list[dict[str, bytes]]:
    keys = [*(key.encode() for key in KEYS), token(scope="admin").encode()]
    return [
        *({"x-api-key": key} for key in keys),
        *({"authorization": scheme + key} for key in keys for scheme in (b"Bearer ", b"bearer  ")),
        {"x-api-key": b"wrong", "authorization": b"Bearer " + keys[0]},
        {"x-api-key": keys[0], "authorization": b"Basic eDp5"},
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("headers", _headers())
async def test_known_credentials_are_let_in(
    guarded_client: httpx.AsyncClient, headers: dict[str, bytes]
) -> None:
    """Either header will do, with any of the keys or a token."""
    response = await guarded_client.get("/admin/queues", headers=headers)
    assert response.status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": "first-key "},
        {"x-api-key": "FIRST-KEY"},
        {"x-api-key": "first-key,second"},
        {"authorization": "first-key"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer first-ke"},
        {"authorization": "Basic first-key"},
        {"x-api-key": "tq_00000000_" + "a" * 43},
        {"cookie": "token=first-key; x-api-key=first-key"},
    ],
)
async def test_others_are_not(guarded_client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Without a known key the answer is 401, which names the scheme but no key."""
    response = await guarded_client.get("/admin/queues", headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.json()["type"] == "urn:taskqueue:problem:unauthorized"
    assert "first" not in response.text


@pytest.mark.anyio
async def test_query_parameter_is_for_websockets_only(guarded_client: httpx.AsyncClient) -> None:
    """A key in a URL ends up in logs, so it opens nothing that has headers."""
    for path in ("/admin/queues", "/ws"):
        assert (await guarded_client.get(f"{path}?token=first-key")).status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?token=first-key", {}),
        ("?token=second-%D0%BA%D0%BB%D1%8E%D1%87", {}),
        ("?token=" + token(scope="tasks:read"), {}),
        ("", {"X-API-Key": "first-key"}),
        ("", bearer("first-key")),
        ("?token=wrong", {"X-API-Key": "first-key"}),
        ("?token=first-key", bearer("wrong")),
    ],
)
async def test_handshakes_that_are_let_in(
    address: str, query: str, headers: dict[str, str]
) -> None:
    """A WebSocket shows its key where it can."""
    async with connect(f"ws://{address}/ws{query}", additional_headers=headers) as socket:
        await socket.send('{"action":"subscribe","events":["task.failed"]}')
        assert json.loads(await socket.recv())["type"] == "subscription.updated"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 401),
        ("?token=", {}, 401),
        ("?token=first-key%20", {}, 401),
        ("?Token=first-key", {}, 401),
        ("?token=wrong&token=first-key", {}, 401),
        ("?" + "a=b&" * 101 + "token=first-key", {}, 401),
        ("", {"X-API-Key": "wrong"}, 401),
        ("", {"Authorization": "Basic first-key"}, 401),
        ("?token=" + token(scope="tasks:write"), {}, 403),
        ("?token=" + token(scope="admin", owner="acme"), {}, 403),
    ],
)
async def test_handshakes_that_are_not(
    address: str, query: str, headers: dict[str, str], status: int
) -> None:
    """Without a known key the handshake is answered with 401, without the scope with 403."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{address}/ws{query}", additional_headers=headers).__aenter__()
    assert refused.value.response.status_code == status
    assert refused.value.response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.anyio
async def test_servers_that_cannot_answer_a_handshake(app: Application) -> None:
    """The endpoint refuses before it accepts; without the answer extension it just closes."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.anyio
async def test_nobody_is_known_without_keys(settings: Settings, broker: Broker) -> None:
    """Where no key has been made yet nobody gets in, whatever is shown; health is open."""
    empty = guarded(settings, api_keys=(), jwt_secret="")
    async with serve(create_app(empty, broker=open_broker(settings))) as http:
        for shown in ("", "null", token(secret="a" * 32, scope="admin")):
            headers = {"X-API-Key": shown}
            assert (await http.get("/admin/queues", headers=headers)).status_code == 401
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/admin/health")).status_code == 200


@pytest.mark.parametrize(
    ("auth", "host", "message"),
    [
        (AuthSettings(enabled=True, jwt_secret="s" * 31), "127.0.0.1", "auth.jwtsecret has 31"),
        (AuthSettings(), "0.0.0.0", "--insecure-no-auth"),
        (AuthSettings(api_keys=("k",)), "::", "--insecure-no-auth"),
        (AuthSettings(jwt_secret=SECRET), "example.org", "--insecure-no-auth"),
    ],
)
def test_settings_that_do_not_start(auth: AuthSettings, host: str, message: str) -> None:
    """An open door needs to be meant, and a lock that a child can pick is none."""
    with pytest.raises(SettingsError, match=message) as refused:
        check_auth_settings(Settings(auth=auth, server=ServerSettings(host=host)))
    assert "sss" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    """Only this machine can reach it."""
    check_auth_settings(Settings(server=ServerSettings(host=host)))


def test_open_on_purpose() -> None:
    """The flag lets a server be open, authentication makes it closed, with or without keys."""
    everywhere = ServerSettings(host="0.0.0.0")
    check_auth_settings(Settings(server=everywhere), is_open_on_purpose=True)
    for auth in (AuthSettings(enabled=True, api_keys=("k",)), AuthSettings(enabled=True)):
        check_auth_settings(Settings(server=everywhere, auth=auth))
        assert has_credentials(Settings(auth=auth)) == bool(auth.api_keys)
    assert has_credentials(Settings(auth=AuthSettings(jwt_secret=SECRET)))


def test_all_keys_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes says neither which key it was nor how much of one was right."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("taskqueue_server.keyring.hmac.compare_digest", compare)
    keys = ConfiguredKeys(("a", "b", "c"))
    for shown in (b"a", b"c", b"d"):
        found = keys.find(sha256(shown).digest())
        assert (found is not None) == (shown != b"d")
    assert len(compared) == 9
