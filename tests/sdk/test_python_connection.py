"""How the Python client reaches a server: addresses, credentials, certificates, proxies."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from taskqueue_client._connection import Connection, make_connection


def connection(url: str, **chosen: Any) -> Connection:
    """Return a connection to nothing."""
    defaults = {"api_key": None, "token": None, "timeout": 7.0, "retry": None, "ssl_context": None}
    return make_connection(url, **{**defaults, **chosen})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
        ("https://tasks.example.com/", "wss://tasks.example.com/ws"),
        ("https://example.com/behind/a/prefix", "wss://example.com/behind/a/prefix/ws"),
    ],
)
def test_the_stream_is_beside_the_api(url: str, address: str) -> None:
    """A prefix is kept; what is not chosen is not asked for."""
    assert connection(url).socket_url((), None, None) == address
    chosen = connection(url).socket_url(["task.failed", "task.completed"], "1", "a.b")
    assert chosen == f"{address}?events=task.failed%2Ctask.completed&task_id=1&since=a.b"


def test_both_ways_trust_the_same() -> None:
    """A context of one's own is for HTTP and WebSocket; without TLS it is for neither."""
    context = ssl.create_default_context()
    secure = connection("https://example.com", ssl_context=context)
    assert secure.http_options()["verify"] is context
    assert secure.socket_options()["ssl"] is context
    assert "ssl" not in connection("http://example.com", ssl_context=context).socket_options()
    assert "ssl" not in connection("https://example.com").socket_options()
    assert connection("https://example.com").http_options()["verify"] is True


def test_no_proxy_is_asked_for_loopback() -> None:
    """It could not reach it; for other hosts the environment says which one to use."""
    for host, has_proxy in (("127.0.0.1", False), ("localhost", False), ("example.com", True)):
        found = connection(f"http://{host}")
        assert found.http_options()["trust_env"] is has_proxy
        assert found.socket_options()["proxy"] is (True if has_proxy else None)


def test_credentials_are_shown_in_both_ways() -> None:
    """A token is asked for each time, so that it may expire."""
    tokens = iter(["first", "second"])
    asked = connection("http://example.com", token=lambda: next(tokens))
    assert asked.credential() == {"Authorization": "Bearer first"}
    assert asked.socket_options()["additional_headers"] == {"Authorization": "Bearer second"}
    assert connection("http://example.com", token="t").credential() == {"Authorization": "Bearer t"}
    assert connection("http://example.com", api_key="k").credential() == {"X-API-Key": "k"}
    assert connection("http://example.com").credential() == {}


def test_what_is_said_of_the_client() -> None:
    """Servers see in their logs which client it is."""
    agent = connection("http://example.com").http_options()["headers"]["User-Agent"]
    assert agent.startswith("taskqueue-client/")
    assert connection("http://example.com").socket_options()["user_agent_header"] == agent
