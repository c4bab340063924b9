"""Pages in browsers: headers that bind them, and which origins may do what."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from checked import serve
from credentials import bearer, guarded
from websockets.asyncio.client import connect

from taskqueue_core.broker import Broker, open_broker
from taskqueue_core.config import load_settings
from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import Settings
from taskqueue_server.app import Application, create_app
from taskqueue_server.origins import Origins
from taskqueue_server.problems import ProblemError

pytestmark = pytest.mark.anyio

CONSOLE = "https://console.example.org"
STRICT = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


@pytest.fixture
async def app(settings: Settings, broker: Broker) -> Application:
    """Return an application that a console on another origin uses."""
    server = settings.server.model_copy(update={"cors_origins": (CONSOLE, "http://[::1]:5173")})
    chosen = guarded(settings).model_copy(update={"server": server})
    return create_app(chosen, broker=open_broker(settings))


@pytest.fixture
async def friendly(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of that application."""
    async with serve(app) as http:
        yield http


@pytest.fixture
async def client(settings: Settings, broker: Broker) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an application that is open and knows of no other origin."""
    async with serve(create_app(settings, broker=open_broker(settings))) as http:
        yield http


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("HEAD", "/health"),
        ("GET", "/nope"),
        ("OPTIONS", "/health"),
        ("POST", "/health"),
        ("GET", "/api/v1/tasks/1"),
        ("POST", "/api/v1/tasks"),
        ("GET", "/metrics"),
        ("GET", "/ws"),
    ],
)
async def test_strict_headers(client: httpx.AsyncClient, method: str, path: str) -> None:
    """Every answer has them, whatever its status."""
    response = await client.request(method, path)
    assert {name: response.headers.get_list(name) for name in STRICT} == {
        name: [value] for name, value in STRICT.items()
    }
    assert not [name for name in response.headers if name.startswith("access-control-")]
    assert "server" not in response.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://test.evil", "test"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/admin/workers/w/pause"),
        ("DELETE", "/admin/dlq"),
        ("POST", "/admin/tasks/1/retry"),
    ],
)
async def test_foreign_pages_change_nothing(
    client: httpx.AsyncClient, method: str, path: str, origin: str
) -> None:
    """A page somewhere cannot make a browser use a server that is open to its machine."""
    response = await client.request(method, path, headers={"Origin": origin})
    assert (response.status_code, response.json()["error"]) == (403, "Forbidden")
    assert "server.corsorigins" in response.json()["message"]


@pytest.mark.parametrize("origin", ["http://test", "HTTPS://TEST", None])
async def test_own_pages_and_programs_do(client: httpx.AsyncClient, origin: str | None) -> None:
    """A page of this server may, and so may what is no page."""
    headers = {} if origin is None else {"Origin": origin}
    response = await client.post("/api/v1/tasks", json={"type": "echo"}, headers=headers)
    assert response.status_code == 201


@pytest.mark.parametrize("origin", [CONSOLE, "http://[::1]:5173"])
async def test_named_pages_do(friendly: httpx.AsyncClient, origin: str) -> None:
    """A page of a named origin asks first, then sends its key and reads the answer."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-api-key",
    }
    preflight = await friendly.options("/api/v1/tasks", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
        200,
        origin,
    )
    assert "access-control-allow-credentials" not in preflight.headers
    headers = {"Origin": origin, **bearer("first-key")}
    response = await friendly.post("/api/v1/tasks", json={"type": "echo"}, headers=headers)
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["vary"] == "Origin"
    assert "X-Request-ID" in response.headers["access-control-expose-headers"]
    refused = await friendly.get("/api/v1/tasks", headers={"Origin": origin})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == origin


async def test_other_pages_do_not(friendly: httpx.AsyncClient) -> None:
    """Another origin is told no beforehand, and cannot read what it gets."""
    evil = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    preflight = await friendly.options("/admin/dlq", headers=evil)
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    headers = {"Origin": "https://evil.example", **bearer("first-key")}
    response = await friendly.get("/api/v1/tasks", headers=headers)
    assert "access-control-allow-origin" not in response.headers
    assert (await friendly.delete("/admin/dlq", headers=headers)).status_code == 403


async def test_named_pages_follow_events(address: str) -> None:
    """The console may open a WebSocket, too, with its key in the query."""
    uri = f"ws://{address}/ws?token=first-key"
    async with connect(uri, additional_headers={"Origin": CONSOLE}):
        pass


@pytest.mark.parametrize("origin", [b"http://[", b"\xff", b"://", b"http://test@evil", b"//test"])
async def test_odd_origins(origin: bytes) -> None:
    """Whatever is sent as an origin, it is allowed or it is not."""
    with pytest.raises(ProblemError):
        Origins([CONSOLE]).check({"headers": [(b"origin", origin), (b"host", b"test")]})


@pytest.mark.parametrize(
    "text",
    ["*", "console.example.org", "https://a.example/", "https://*.example.org", "ftp://a", "null"],
)
async def test_origins_are_checked(text: str) -> None:
    """A setting that is no origin, or all of them, stops the start."""
    with pytest.raises(SettingsError, match=r"server\.corsorigins should be origins such as https"):
        load_settings(environ={"TASKQUEUE_SERVER_CORSORIGINS": f"{CONSOLE},{text}"}, search=())
    settings = load_settings(
        environ={"TASKQUEUE_SERVER_CORS_ORIGINS": f"{CONSOLE},HTTP://LOCALHOST:3000"}, search=()
    ).settings
    assert settings.server.cors_origins == (CONSOLE, "http://localhost:3000")
