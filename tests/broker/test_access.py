"""API keys in Redis: made once, found by their id, never legible again."""

from __future__ import annotations

import secrets
from hashlib import sha256

import pytest

from taskqueue_core.broker import Broker, key_id, open_broker
from taskqueue_core.errors import BrokerUnavailableError, InvalidKeyError, NotFoundError
from taskqueue_core.keys import api_keys
from taskqueue_core.models import SCOPES
from taskqueue_core.settings import RedisSettings, Settings

pytestmark = pytest.mark.anyio


async def raw(broker: Broker) -> dict[bytes, bytes]:
    """Return all records as they are stored."""
    name = api_keys(broker.settings.queue.namespace)
    found: dict[bytes, bytes] = await broker.redis.hgetall(name)  # type: ignore[misc,assignment]
    return found


async def test_new_key(broker: Broker) -> None:
    """A key carries its id, and its record says what it may."""
    text, key = await broker.api_keys.create(["tasks:write", "tasks:read"], owner="acme", days=0.5)
    name = key_id(text)
    assert name is not None
    assert key == await broker.api_keys.find(name)
    assert (key.scopes, key.owner) == (("tasks:read", "tasks:write"), "acme")
    assert key.expires_at_ms == key.created_at_ms + 43_200_000
    assert key.digest == sha256(text.encode()).digest()


async def test_secret_is_not_stored(broker: Broker) -> None:
    """Whoever reads Redis cannot call: it has a digest of 256 random bits."""
    text, _ = await broker.api_keys.create(["admin"])
    secret = text.split("_", 2)[2]
    assert len(secret) == 43
    assert secret.encode() not in b"".join(await raw(broker))
    assert all(secret.encode() not in record for record in (await raw(broker)).values())
    other, _ = await broker.api_keys.create(["admin"])
    assert other.split("_", 2)[2] != secret


async def test_list_and_revoke(broker: Broker) -> None:
    """Keys are listed until they are revoked, expired ones too."""
    made = [key_id((await broker.api_keys.create([scope]))[0]) for scope in SCOPES]
    entries = await broker.api_keys.entries()
    assert sorted(entries) == sorted(map(str, made))
    assert sorted(key.scopes[0] for key in entries.values()) == sorted(SCOPES)
    await broker.api_keys.revoke(str(made[0]))
    assert await broker.api_keys.find(str(made[0])) is None
    assert sorted(await broker.api_keys.entries()) == sorted(map(str, made[1:]))
    with pytest.raises(NotFoundError, match=f"API key {made[0]} not found"):
        await broker.api_keys.revoke(str(made[0]))


@pytest.mark.parametrize(
    ("scopes", "options", "message"),
    [
        ([], {}, "at least one scope of tasks:read, tasks:write, metrics, admin"),
        (["tasks:read", "tasks"], {}, "no scope 'tasks'"),
        (["ADMIN"], {}, "no scope 'ADMIN'"),
        (["tasks:read", "admin"], {"owner": "acme"}, "cannot have the scope admin"),
        (["tasks:read"], {"owner": "a b"}, "an owner begins with a letter"),
        (["tasks:read"], {"owner": "a" * 65}, "an owner begins with a letter"),
        (["tasks:read"], {"days": 0}, "more than 0"),
        (["tasks:read"], {"days": 36_501}, "at most 36500"),
        (["tasks:read"], {"days": float("nan")}, "more than 0"),
    ],
)
async def test_refused_keys(
    broker: Broker, scopes: list[str], options: dict[str, object], message: str
) -> None:
    """A key that breaks a rule is not made."""
    with pytest.raises(InvalidKeyError, match=message):
        await broker.api_keys.create(scopes, **options)  # type: ignore[arg-type]
    assert await raw(broker) == {}


async def test_taken_id(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that is in use is not given to another key."""
    ids = iter(["0" * 8, "0" * 8, "1" * 8])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(ids))
    first, _ = await broker.api_keys.create(["admin"])
    second, _ = await broker.api_keys.create(["metrics"])
    assert [key_id(first), key_id(second)] == ["0" * 8, "1" * 8]
    found = await broker.api_keys.find("0" * 8)
    assert found is not None
    assert found.scopes == ("admin",)


async def test_repeat_after_a_lost_answer(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is stored already was stored by the call whose answer was lost."""
    call = broker.api_keys._call

    async def twice(command: str, *arguments: str | bytes) -> object:
        await call(command, *arguments)
        return await call(command, *arguments)

    monkeypatch.setattr(broker.api_keys, "_call", twice)
    text, key = await broker.api_keys.create(["admin"])
    monkeypatch.undo()
    assert await broker.api_keys.entries() == {key_id(text): key}


async def test_broken_record(broker: Broker) -> None:
    """What is no record of a key lets nobody in."""
    name = api_keys(broker.settings.queue.namespace)
    for broken in ("", "[]", '{"digest":1}', '{"digest":"00"}', "\x00"):
        await broker.redis.hset(name, "0" * 8, broken)  # type: ignore[misc]
        assert await broker.api_keys.find("0" * 8) is None
    assert await broker.api_keys.entries() == {}


async def test_namespaces_have_their_own_keys(broker: Broker, settings: Settings) -> None:
    """A key opens the namespace that it was made in."""
    text, _ = await broker.api_keys.create(["admin"])
    queue = settings.queue.model_copy(update={"namespace": settings.queue.namespace + "-x"})
    other = open_broker(settings.model_copy(update={"queue": queue}))
    assert await other.api_keys.find(str(key_id(text))) is None
    await other.close()


@pytest.mark.parametrize(
    "text",
    [
        *("", "key", "tq_", "tq_0123456_" + "a" * 43, "tq_0123456g_" + "a" * 43),
        *("tq_01234567_" + rest for rest in ("a" * 42, "a" * 44, "a" * 42 + "é", "a" * 43 + "\n")),
        *(" tq_01234567_" + "a" * 43, "TQ_01234567_" + "a" * 43),
    ],
)
def test_no_key_of_ours(text: str) -> None:
    """Other texts have no id, so that nothing is asked of Redis for them."""
    assert key_id(text) is None


async def test_broker_away(settings: Settings) -> None:
    """Without a broker nobody knows a key, which is no "no"."""
    redis = RedisSettings(url="redis://127.0.0.1:1", max_retries=0)
    broker = open_broker(settings.model_copy(update={"redis": redis}))
    with pytest.raises(BrokerUnavailableError):
        await broker.api_keys.find("0" * 8)
    await broker.close()
