"""Redis URLs of every topology, and what is said about malformed ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from taskqueue_core.broker import open_redis
from taskqueue_core.config import load_settings
from taskqueue_core.errors import SettingsError
from taskqueue_core.settings import RedisSettings, Settings, parse_redis_url, redact_url


@pytest.mark.parametrize(
    ("url", "kind", "plain", "nodes", "service"),
    [
        ("redis://h", "", "redis://h:6379/", [("h", 6379)], ""),
        ("rediss://u:p%40@[::1]:1/2", "", "rediss://u:p%40@[::1]:1/2", [("::1", 1)], ""),
        ("unix://:p@/s/x.sock?db=1", "", "unix://:p@/s/x.sock?db=1", [], ""),
        (
            "redis+sentinel://:p@a:1,b/tasks/3",
            "sentinel",
            "redis://:p@a:1/3",
            [("a", 1), ("b", 26379)],
            "tasks",
        ),
        ("rediss+sentinel://a/tasks", "sentinel", "rediss://a:26379/", [("a", 26379)], "tasks"),
        ("redis+cluster://a,b:2", "cluster", "redis://a:6379/", [("a", 6379), ("b", 2)], ""),
        ("rediss+cluster://u:p@a:1/0", "cluster", "rediss://u:p@a:1/0", [("a", 1)], ""),
    ],
)
def test_a_url_is_taken_apart(
    url: str, kind: str, plain: str, nodes: list[tuple[str, int]], service: str
) -> None:
    """Every scheme has its servers, credentials, database and service."""
    found = parse_redis_url(url)
    assert (found.kind, found.plain) == (kind, plain)
    assert (list(found.nodes), found.service) == (nodes, service)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://h", "should begin with"),
        ("redis:/h", "should begin with"),
        ("redis+magic://h", "should begin with"),
        ("redis://", "as host or host:port"),
        ("redis://h:99999", "as host or host:port"),
        ("redis://h:x", "as host or host:port"),
        ("redis+cluster://a,,b", "as host or host:port"),
        ("redis://a,b", "should name one server"),
        ("redis://:hush@b/c@h", "as its last part"),
        ("redis://:hu@sh@h", "percent-encoded"),
        ("redis://h/x", "as its last part"),
        ("redis+sentinel://h:1", "should end with the service"),
        ("redis+sentinel://h:1/tasks/x", "as its last part"),
        ("redis+cluster://h/3", "should name no database"),
        ("redis+cluster://h?db=3", "the number of a database"),
        ("redis://h?bd=3", "has an unknown option bd"),
        ("redis://h?ssl_certfile=x", "has an unknown option ssl_certfile"),
        ("redis://h?sentinel_password=hush", "has an unknown option sentinel_password"),
        ("unix://relative.sock", "should be unix:///"),
    ],
)
def test_a_malformed_url_stops_the_start(url: str, rule: str) -> None:
    """The message names the setting and the rule, and hides the password."""
    with pytest.raises(SettingsError, match=r"^redis\.url ") as caught:
        load_settings(environ={"TASKQUEUE_REDIS_URL": url}, search=())
    assert rule in str(caught.value)
    assert "hush" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"^redis\.url "):
        open_redis(Settings(redis=RedisSettings.model_construct(url=url, **_TIMES)))


_TIMES = {name: info.default for name, info in RedisSettings.model_fields.items() if name != "url"}


def test_a_sentinel_password_is_hidden() -> None:
    url = "redis+sentinel://a/s?sentinel_password=hush&sentinel_username=u"
    assert redact_url(url) == "redis+sentinel://a/s?sentinel_password=***&sentinel_username=***"


@pytest.mark.parametrize(
    "url",
    [
        "rediss://u:p@h/1?ssl_cert_reqs=none",
        "rediss+sentinel://u:p@a,b/tasks/1?sentinel_password=q&ssl_ca_certs=/ca.pem",
        "rediss+cluster://u:p@a,b?ssl_ca_certs=/ca.pem&ssl_check_hostname=no",
    ],
)
def test_a_client_is_made_without_connecting(url: str, tmp_path: Path) -> None:
    """The client has the URL's user, database and TLS, and has asked nobody yet."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    url = url.replace("/ca.pem", f"{tmp_path}/ca.pem")
    client = open_redis(Settings(redis=RedisSettings(url=url)))
    if isinstance(client, RedisCluster):
        options = client.connection_kwargs
        assert [node.name for node in client.startup_nodes] == ["a:6379", "b:6379"]
        assert "SSL" in str(options["connection_class"].__mro__)
    else:
        assert isinstance(client, Redis)
        options = client.connection_pool.connection_kwargs
        assert options["db"] == 1
        assert "SSL" in str(client.connection_pool.connection_class.__mro__)
    assert (options["username"], options["password"]) == ("u", "p")


def test_sentinels_have_a_password_of_their_own() -> None:
    url = "redis+sentinel://:p@a,b:1/tasks?sentinel_password=q"
    client = open_redis(Settings(redis=RedisSettings(url=url)))
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    asked = [
        (s.connection_pool.connection_kwargs["host"], s.connection_pool.connection_kwargs)
        for s in pool.sentinel_manager.sentinels
    ]
    assert [host for host, _ in asked] == ["a", "b"]
    assert {options["password"] for _, options in asked} == {"q"}
    assert pool.connection_kwargs["password"] == "p"
