"""Stored keys at the gate: found in Redis, believed for seconds, bounded in memory."""

from __future__ import annotations

import asyncio
import time

import pytest
from checked import serve
from credentials import guarded, token

from taskqueue_core.broker import Broker, key_id, open_broker
from taskqueue_core.errors import BrokerUnavailableError
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_server import keyring
from taskqueue_server.app import create_app
from taskqueue_server.auth import Gate
from taskqueue_server.keyring import MAX_AGE_SECONDS, MAX_REMEMBERED

pytestmark = pytest.mark.anyio


class Watch:
    """A gate with clocks that stand still, and a count of what it asks of Redis."""

    def __init__(self, settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.now_ms = time.time_ns() // 1_000_000
        self.asked = 0
        find = broker.api_keys.find

        async def counted(name: str) -> object:
            self.asked += 1
            return await find(name)

        monkeypatch.setattr(broker.api_keys, "find", counted)
        self.gate = Gate(
            guarded(settings), broker.api_keys, lambda: self.now_ms, clock=lambda: self.seconds
        )

    async def name(self, key: str) -> str | None:
        """Return whom the gate takes the key's holder for."""
        found = await self.gate.identify(key.encode())
        return found.name if found else None


@pytest.fixture
def watch(settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return a gate under observation."""
    return Watch(settings, broker, monkeypatch)


async def test_stored_key(watch: Watch, broker: Broker) -> None:
    """A key is its id, its scopes and its owner; asking again does not ask Redis again."""
    text, _ = await broker.api_keys.create(["tasks:read", "metrics"], owner="acme")
    for _ in range(3):
        found = await watch.gate.identify(text.encode())
        assert found is not None
        assert (found.name, found.owner) == (f"key:{key_id(text)}", "acme")
        assert found.scopes == {"tasks:read", "metrics"}
    assert watch.asked == 1


async def test_wrong_secret(watch: Watch, broker: Broker) -> None:
    """The id alone opens nothing, also while the right key is remembered."""
    text, _ = await broker.api_keys.create(["admin"])
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert await watch.name(wrong) is None
    assert await watch.name(text) is not None
    assert await watch.name(wrong) is None
    assert watch.asked == 1


async def test_revoked_key(watch: Watch, broker: Broker) -> None:
    """A key that is revoked is refused within five seconds, by every server."""
    text, _ = await broker.api_keys.create(["admin"])
    assert await watch.name(text) is not None
    await broker.api_keys.revoke(str(key_id(text)))
    watch.seconds = MAX_AGE_SECONDS
    assert await watch.name(text) is None
    assert MAX_AGE_SECONDS <= 5


async def test_expired_key(watch: Watch, broker: Broker) -> None:
    """A key ends at its time, remembered or not."""
    text, key = await broker.api_keys.create(["admin"], days=1)
    assert key.expires_at_ms is not None
    watch.now_ms = key.expires_at_ms - 1
    assert await watch.name(text) is not None
    watch.now_ms += 1
    assert await watch.name(text) is None


async def test_memory_is_bounded(watch: Watch) -> None:
    """Invented ids cannot fill the memory, and each is asked about once."""
    texts = [f"tq_{number:08x}_{'a' * 43}" for number in range(MAX_REMEMBERED + 10)]
    for text in [*texts, texts[-1]]:
        assert await watch.name(text) is None
    assert watch.asked == len(texts)
    assert len(watch.gate._stored._remembered) == MAX_REMEMBERED


async def test_other_credentials_are_not_asked_about(watch: Watch) -> None:
    """Only what looks like a stored key costs a question."""
    shown = [token(scope="admin"), token("x" * 32), "first-key", "tq_1_2", "", "\x00", "ключ"]
    names = [await watch.name(text) for text in shown]
    assert names == ["jwt:somebody", None, "config:1", None, None, None, None]
    assert watch.asked == 0


async def test_broker_away(settings: Settings) -> None:
    """A stored key is answered with 503 then; keys of the settings and tokens go on."""
    redis = RedisSettings(url="redis://127.0.0.1:1", max_retries=0)
    away = guarded(settings.model_copy(update={"redis": redis}))
    async with serve(create_app(away)) as http:
        for key, status in (("tq_00000000_" + "a" * 43, 503), ("first-key", 200), ("wrong", 401)):
            answer = await http.get("/metrics", headers={"X-API-Key": key})
            assert answer.status_code == status
            assert ("retry-after" in answer.headers) == (status == 503)


async def test_silent_broker(watch: Watch, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that does not answer keeps nobody waiting for long."""

    async def never(_name: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(broker.api_keys, "find", never)
    monkeypatch.setattr(keyring, "_PATIENCE_SECONDS", 0.01)
    with pytest.raises(BrokerUnavailableError, match="no answer within"):
        await watch.name("tq_00000000_" + "a" * 43)


async def test_new_key_over_http(settings: Settings, broker: Broker) -> None:
    """A key that was just made works at once, on a server that runs already."""
    async with serve(create_app(guarded(settings), broker=open_broker(settings))) as http:
        text, _ = await broker.api_keys.create(["tasks:read"])
        headers = {"X-API-Key": text}
        assert (await http.get("/api/v1/tasks", headers=headers)).status_code == 200
        assert (await http.get("/admin/queues", headers=headers)).status_code == 403
