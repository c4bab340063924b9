"""The rate limit: who is counted, who is refused, and what the answers say about it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from answers import operations
from checked import ready, serve
from credentials import KEYS, guarded
from limited import exhaust, limited, with_queue

from taskqueue_core.broker import Broker
from taskqueue_core.settings import RedisSettings, Settings
from taskqueue_server.app import create_app
from taskqueue_server.principal import ANYBODY, PRINCIPAL, Principal
from taskqueue_server.rate_limit import client_of

pytestmark = pytest.mark.anyio

_PATH = "/api/v1/tasks"


def batch(count: int) -> dict[str, Any]:
    """Return the body of a batch."""
    return {"tasks": [{"type": "echo"}] * count}


def test_what_is_limited() -> None:
    """Everything under /api/v1 and /admin documents 429, but for health; nothing else does."""
    for path, _, operation in operations():
        is_limited = path.startswith(("/api/v1/", "/admin/")) and path != "/admin/health"
        assert ("429" in operation["responses"]) == is_limited, path


async def test_too_many(settings: Settings, broker: Broker) -> None:
    """So many at once are served, one more is not; it is told when to come again."""
    async with limited(settings, per_second=5) as client:
        sent = [client.post(_PATH, json={"type": "echo"}) for _ in range(8)]
        answers = await asyncio.gather(*sent)
        refused = await client.get(_PATH)
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [429] * 3
    assert (await broker.inspection.queue_stats()).backlog == 5
    assert refused.json()["type"] == "urn:taskqueue:problem:rate-limited"
    assert "more than 5 requests a second" in refused.json()["message"]
    assert refused.headers["retry-after"] == "1"


async def test_headers(settings: Settings) -> None:
    """Every counted answer says what is left, errors too."""
    async with limited(settings, per_second=10) as client:
        answers = [
            await client.get(_PATH),
            await client.get(f"{_PATH}/nothing"),
            await client.post(_PATH, json={"type": 5}),
            await client.post(f"{_PATH}/batch", json=batch(5)),
            await client.head(_PATH),
        ]
    names = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
    assert [answer.status_code for answer in answers] == [200, 404, 400, 200, 200]
    found = [tuple(answer.headers[name] for name in names) for answer in answers]
    assert found == [("10", left, "1") for left in ("9", "8", "7", "2", "1")]


async def test_open_operations_are_not_counted(settings: Settings, broker: Broker) -> None:
    """A client that is refused everywhere can still be told that the service is well."""
    async with limited(settings, per_second=1) as client:
        await ready(client)
        await exhaust(broker)
        for path in ("/health", "/health/live", "/health/ready", "/admin/health", "/metrics"):
            answer = await client.get(path)
            assert (answer.status_code, "ratelimit-limit" in answer.headers) == (200, False)


async def test_a_batch_counts_its_tasks(settings: Settings, broker: Broker) -> None:
    """It is refused when there are more than what is left, before any of them is stored."""
    async with limited(settings, per_second=10) as client:
        answers = [
            (await client.post(f"{_PATH}/batch", json=batch(count))).status_code
            for count in (6, 5, 3, 1)
        ]
    # The one that was refused counted as one request.
    assert answers == [200, 429, 200, 429]
    assert (await broker.inspection.queue_stats()).backlog == 9


async def test_a_batch_larger_than_a_second_allows(settings: Settings) -> None:
    """It is served to who has asked for nothing, and then nothing else is for a while."""
    async with limited(settings, per_second=10) as client:
        large = await client.post(f"{_PATH}/batch", json=batch(30))
        refused = await client.post(f"{_PATH}/batch", json=batch(30))
        small = await client.get(_PATH)
    assert (large.status_code, large.headers["ratelimit-reset"]) == (200, "3")
    assert (refused.status_code, small.status_code) == (429, 429)
    assert (refused.headers["retry-after"], small.headers["retry-after"]) == ("3", "3")


async def test_keys_are_clients(settings: Settings) -> None:
    """Each key has its own allowance, wherever it is shown; without one nobody is counted."""
    async with limited(guarded(settings), per_second=2) as client:
        first, second = ({"X-API-Key": key.encode()} for key in KEYS)
        for _ in range(3):
            assert (await client.get(_PATH)).status_code == 401
        answers = await asyncio.gather(*(client.get(_PATH, headers=first) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429]
        assert (await client.get(_PATH, headers=second)).status_code == 200


@pytest.mark.parametrize(
    ("scope", "client"),
    [
        ({"client": ("10.0.0.1", 1), PRINCIPAL: Principal("key:ab", frozenset())}, "key:ab"),
        ({"client": ("10.0.0.1", 1), PRINCIPAL: ANYBODY}, "peer:10.0.0.1"),
        ({"client": ("10.0.0.1", 2), "headers": [(b"x-forwarded-for", b"1")]}, "peer:10.0.0.1"),
        ({"client": ("::1", 2)}, "peer:::1"),
        ({"client": None}, "peer:"),
        ({}, "peer:"),
    ],
)
def test_names_of_clients(scope: dict[str, Any], client: str) -> None:
    """A credential counts before the address, and headers count for nothing."""
    assert client_of(scope) == client


async def test_invented_addresses_do_not_help(settings: Settings) -> None:
    """Whoever is too fast stays it, whatever the headers say about where a request comes from."""
    async with limited(settings, per_second=2) as client:
        answers = []
        for number in range(20):
            address = f"10.0.0.{number}"
            headers = {
                "x-forwarded-for": address,
                "forwarded": f"for={address}",
                "x-real-ip": address,
            }
            answers.append((await client.get(_PATH, headers=headers)).status_code)
    assert answers == [200] * 2 + [429] * 18


async def test_processes_share(settings: Settings) -> None:
    """It does not help to ask another server."""
    now_ms = time.time_ns() // 1_000_000
    async with AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(limited(settings, 6, now_ms=now_ms)) for _ in range(2)
        ]
        answers = await asyncio.gather(*(client.get(_PATH) for client in both * 10))
    assert sorted(answer.status_code for answer in answers) == [200] * 6 + [429] * 14


async def test_without_a_broker(settings: Settings) -> None:
    """Nobody is told to come slower when the service is at fault."""
    away = RedisSettings(url="redis://127.0.0.1:1", max_retries=0)
    chosen = with_queue(settings.model_copy(update={"redis": away}), rate_limit_rps=1)
    async with serve(create_app(chosen)) as client:
        answers = [await client.get(_PATH) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert "ratelimit-limit" not in answers[0].headers


async def test_a_request_that_is_refused_is_not_read(settings: Settings, broker: Broker) -> None:
    """A body that is too large, or never comes, does not matter to a client that is too fast."""
    async with limited(settings, per_second=1) as client:
        await exhaust(broker)

        async def body() -> Any:
            yield b"{"
            raise AssertionError("it was read")

        headers = {"content-type": "application/json"}
        response = await client.post(_PATH, content=body(), headers=headers)
    assert response.status_code == 429


async def test_what_breaks_a_rule_is_counted(settings: Settings) -> None:
    """Requests are counted before they are read."""
    async with limited(settings, per_second=2) as client:
        assert (await client.post(_PATH, json={"type": 5})).status_code == 400
        answers = await asyncio.gather(client.get(_PATH), client.get(_PATH))
    assert sorted(answer.status_code for answer in answers) == [200, 429]
