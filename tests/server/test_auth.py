"""Who is let in: API keys in three places, and settings that are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from answers import operations
from checked import serve

from taskqueue_core.broker import open_broker
from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import AuthSettings, ServerSettings, Settings
from taskqueue_server.app import create_app
from taskqueue_server.auth import Keyring
from taskqueue_server.exposure import check_auth_settings
from taskqueue_server.messages import Message, Scope
from taskqueue_server.problems import ProblemError

_KEYS = ("first-key", "second-ключ")


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server that wants a key."""
    closed = settings.model_copy(update={"auth": AuthSettings(enabled=True, api_keys=_KEYS)})
    async with serve(create_app(closed, broker=open_broker(settings))) as http:
        yield http


def _headers() -> list[dict[str, bytes]]:
    keys = [key.encode() for key in _KEYS]
    return [
        *({"x-api-key": key} for key in keys),
        *({"authorization": scheme + key} for key in keys for scheme in (b"Bearer ", b"bearer  ")),
        {"x-api-key": b"wrong", "authorization": b"Bearer " + keys[0]},
        {"x-api-key": keys[0], "authorization": b"Basic eDp5"},
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("headers", _headers())
async def test_known_keys_are_let_in(guarded: httpx.AsyncClient, headers: dict[str, bytes]) -> None:
    """Either header will do, with any of the keys."""
    response = await guarded.get("/admin/queues", headers=headers)
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
    ],
)
async def test_others_are_not(guarded: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Without a known key the answer is 401, which names the scheme but no key."""
    response = await guarded.get("/admin/queues", headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.json()["type"] == "urn:taskqueue:problem:unauthorized"
    assert "first" not in response.text


@pytest.mark.anyio
async def test_every_operation_asks_for_a_key_but_health(guarded: httpx.AsyncClient) -> None:
    """What the contract leaves open is open; all else asks before it looks at the request."""
    for path, method, operation in operations():
        response = await guarded.request(method, path.replace("{", "").replace("}", "") + "?x=1")
        expected = 400 if operation.get("security") == [] else 401
        assert response.status_code == expected, path
    assert (await guarded.get("/health")).status_code == 200
    assert (await guarded.get("/admin/health")).status_code == 200


@pytest.mark.anyio
async def test_query_parameter_is_for_websockets_only(guarded: httpx.AsyncClient) -> None:
    """A key in a URL ends up in logs, so it opens nothing that has headers."""
    response = await guarded.get("/admin/queues?token=first-key")
    assert response.status_code == 401


def _handshake(query: bytes = b"", **headers: bytes) -> Scope:
    pairs = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return {"type": "websocket", "query_string": query, "headers": pairs}


@pytest.mark.parametrize(
    "scope",
    [
        _handshake(b"token=first-key"),
        _handshake(b"token=second-%D0%BA%D0%BB%D1%8E%D1%87"),
        _handshake(x_api_key=b"first-key"),
        _handshake(authorization=b"Bearer first-key"),
        _handshake(b"token=wrong", x_api_key=b"first-key"),
    ],
)
def test_handshakes_that_are_let_in(scope: Scope) -> None:
    """A WebSocket shows its key where it can."""
    Keyring(_KEYS).check_handshake(scope)
    Keyring((), is_enforced=False).check_handshake(_handshake())


@pytest.mark.parametrize(
    "scope",
    [
        _handshake(),
        _handshake(b"token="),
        _handshake(b"token=first-key%20"),
        _handshake(b"Token=first-key"),
        _handshake(x_api_key=b"wrong"),
        _handshake(authorization=b"Basic first-key"),
    ],
)
def test_handshakes_that_are_not(scope: Scope) -> None:
    """Without a known key the handshake is answered with 401."""
    with pytest.raises(ProblemError) as refused:
        Keyring(_KEYS).check_handshake(scope)
    assert refused.value.status == 401


@pytest.mark.anyio
async def test_websockets_ask_for_a_key(settings: Settings) -> None:
    """The endpoint refuses before it accepts; without the answer extension it just closes."""
    closed = settings.model_copy(update={"auth": AuthSettings(enabled=True, api_keys=_KEYS)})
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await create_app(closed)({**_handshake(), "path": "/ws"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    extensions = {"websocket.http.response": {}}
    scope = {**_handshake(), "path": "/ws", "extensions": extensions}
    await create_app(closed)(scope, receive, send)
    assert [message.get("status") for message in sent[1:]] == [401, None]


def test_nobody_is_known_to_an_empty_keyring(settings: Settings) -> None:
    """Without keys no key is accepted, and no application starts that asks for one."""
    assert not Keyring(()).accepts(b"")
    with pytest.raises(ProblemError):
        Keyring(()).check_handshake(_handshake(b"token="))
    with pytest.raises(SettingsError, match=r"auth\.apikeys"):
        create_app(settings.model_copy(update={"auth": AuthSettings(enabled=True)}))
    assert Keyring(("a",)).accepts(b"a")


@pytest.mark.parametrize(
    ("auth", "host", "message"),
    [
        (AuthSettings(enabled=True), "127.0.0.1", "auth.apikeys"),
        (AuthSettings(jwt_secret="s"), "127.0.0.1", "auth.jwtsecret"),
        (AuthSettings(enabled=True, jwt_secret="s"), "127.0.0.1", "auth.jwtsecret"),
        (AuthSettings(), "0.0.0.0", "--insecure-no-auth"),
        (AuthSettings(), "::", "--insecure-no-auth"),
        (AuthSettings(), "example.org", "--insecure-no-auth"),
    ],
)
def test_settings_that_do_not_start(auth: AuthSettings, host: str, message: str) -> None:
    """An open door needs to be meant, and a lock needs a key."""
    with pytest.raises(SettingsError, match=message):
        check_auth_settings(Settings(auth=auth, server=ServerSettings(host=host)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    """Only this machine can reach it."""
    check_auth_settings(Settings(server=ServerSettings(host=host)))


def test_open_on_purpose() -> None:
    """The flag lets a server be open, the key makes it closed."""
    everywhere = ServerSettings(host="0.0.0.0")
    check_auth_settings(Settings(server=everywhere), is_open_on_purpose=True)
    closed = AuthSettings(enabled=True, api_keys=("k",))
    check_auth_settings(Settings(server=everywhere, auth=closed))
