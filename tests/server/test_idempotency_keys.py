"""``Idempotency-Key``: a request that is sent again is answered, not carried out again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from credentials import bearer, guarded, token
from fleet import FakeWorker
from limited import exhaust, limited, with_queue

from taskqueue_core.broker import Broker
from taskqueue_core.config import child_environ
from taskqueue_core.plugin.schemas import HandlerSchemas
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio
Serving = Callable[[Settings], AbstractAsyncContextManager[httpx.AsyncClient]]

_ONE, _MANY = "/api/v1/tasks", "/api/v1/tasks/batch"


async def submit(
    client: httpx.AsyncClient, key: str = "order-1", task_type: str = "echo", **headers: str
) -> httpx.Response:
    """Submit a task with a key."""
    return await client.post(
        _ONE, json={"type": task_type}, headers={"Idempotency-Key": key, **headers}
    )


async def submit_many(
    client: httpx.AsyncClient, count: int, key: str = "order-1", **fields: Any
) -> httpx.Response:
    """Submit a batch with a key."""
    body = {"tasks": [{"type": "echo", **fields}] * count}
    return await client.post(_MANY, json=body, headers={"Idempotency-Key": key})


def statuses(response: httpx.Response) -> list[int]:
    """Return the statuses of the items of a batch."""
    assert response.status_code == 200, response.text
    return [item["status"] for item in response.json()["items"]]


async def test_a_repeat_is_answered_with_the_task(client: httpx.AsyncClient) -> None:
    """The second answer says that it is one, and is otherwise the first one."""
    first, again = await submit(client), await submit(client)
    assert (first.status_code, "idempotent-replayed" in first.headers) == (201, False)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert (await client.get(_ONE)).json()["totals"]["queued"] == 1


async def test_another_request_with_the_key(client: httpx.AsyncClient, broker: Broker) -> None:
    """It is refused, whichever of the two operations it is for; nothing is stored."""
    await submit(client)
    for other in (await submit(client, task_type="other"), await submit_many(client, 150)):
        assert other.status_code == 422
        assert other.json()["type"] == "urn:taskqueue:problem:idempotency-mismatch"
    assert (await broker.inspection.queue_stats()).backlog == 1


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\tb"])
@pytest.mark.parametrize("path", [_ONE, _MANY])
async def test_keys_that_are_none(client: httpx.AsyncClient, path: str, key: str) -> None:
    """A key is visible ASCII of at most 255 characters."""
    body = {"type": "echo"} if path == _ONE else {"tasks": [{"type": "echo"}]}
    headers = [(b"idempotency-key", key.encode())]
    response = await client.post(path, json=body, headers=headers)
    assert (response.status_code, response.json()["field"]) == (400, "Idempotency-Key")


async def test_two_keys_are_none(client: httpx.AsyncClient) -> None:
    """Nobody can say which one is meant."""
    headers = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    response = await client.post(_ONE, json={"type": "echo"}, headers=headers)
    assert (response.status_code, response.json()["field"]) == (400, "Idempotency-Key")


async def test_a_batch_that_comes_again(client: httpx.AsyncClient) -> None:
    """All of its tasks are there already; they are the same ones."""
    first, again = await submit_many(client, 150), await submit_many(client, 150)
    assert (statuses(first), statuses(again)) == ([201] * 150, [200] * 150)
    assert (again.json()["accepted_count"], again.headers["idempotent-replayed"]) == (150, "true")
    assert [i["task"] for i in again.json()["items"]] == [i["task"] for i in first.json()["items"]]
    assert "idempotent-replayed" not in first.headers
    other = await submit_many(client, 151)
    assert (other.status_code, (await client.get(_ONE)).json()["totals"]["queued"]) == (422, 150)


async def test_a_batch_is_finished_by_its_repeat(
    settings: Settings, serving: Serving, client: httpx.AsyncClient
) -> None:
    """What had no room, and only that, is made when it comes again."""
    async with serving(with_queue(settings, max_queue_size=130)) as full:
        assert statuses(await submit_many(full, 150)) == [201] * 130 + [503] * 20
    again = await submit_many(client, 150)
    assert statuses(again) == [200] * 130 + [201] * 20
    assert "idempotent-replayed" not in again.headers


async def test_places_count_and_not_what_is_valid(client: httpx.AsyncClient) -> None:
    """A task that breaks a rule moves no other one to its place."""
    far = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    body = {"tasks": [{"type": "a"}, {"type": "b", "scheduled_at": far}, {"type": "c"}]}
    answers = [
        await client.post(_MANY, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [statuses(answer) for answer in answers] == [[201, 400, 201], [200, 400, 200]]
    ids = [[item.get("task", {}).get("id") for item in a.json()["items"]] for a in answers]
    assert ids[0] == ids[1]


async def test_the_limits_do_not_hold_for_a_repeat(settings: Settings, broker: Broker) -> None:
    """A client that is too fast gets the answer it had; anything new is refused."""
    async with limited(settings, per_second=10) as client:
        first, many = await submit(client), await submit_many(client, 3, "order-2")
        await exhaust(broker)
        again = await submit(client)
        assert (again.status_code, again.json()) == (200, first.json())
        assert statuses(await submit_many(client, 3, "order-2")) == [200] * 3
        assert statuses(many) == [201] * 3
        assert (await submit(client, task_type="other")).status_code == 422
        assert (await submit_many(client, 4, "order-2")).status_code == 422
        for new in (await submit(client, "order-3"), await submit_many(client, 2, "order-4")):
            assert (new.status_code, "retry-after" in new.headers) == (429, True)
        assert (await client.post(_ONE, json={"type": "echo"})).status_code == 429


async def test_a_rule_made_later_does_not_hold_for_a_repeat(
    settings: Settings, serving: Serving, client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """What was accepted is answered, though its worker has learned to refuse it meanwhile."""
    first, many = await submit(client, task_type="mail"), await submit_many(client, 2, type="mail")
    assert (first.status_code, many.status_code) == (201, 422)
    many = await submit_many(client, 2, "order-2", type="mail")
    schemas = HandlerSchemas(payload={"type": "object", "required": ["to"]}, result={})
    await worker.register({}, {"mail": schemas})
    async with serving(settings) as other:
        again = await submit(other, task_type="mail")
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        repeated = await submit_many(other, 2, "order-2", type="mail")
        assert statuses(repeated) == [200] * 2
        assert repeated.json()["items"] == [i | {"status": 200} for i in many.json()["items"]]
        new = await submit(other, "order-3", task_type="mail")
        assert (new.status_code, new.json()["field"]) == (400, "payload/to")
        assert statuses(await submit_many(other, 2, "order-4", type="mail")) == [400] * 2
        mixed = await submit_many(other, 1, "order-2", type="mail")
        assert mixed.status_code == 422


async def test_a_full_queue_answers_a_repeat(settings: Settings, serving: Serving) -> None:
    """What is there already needs no room."""
    async with serving(with_queue(settings, max_queue_size=1)) as client:
        first = await submit(client)
        assert (await submit(client, "order-2")).status_code == 503
        again = await submit(client)
        assert (again.status_code, again.json()) == (200, first.json())


async def test_keys_belong_to_owners(settings: Settings, serving: Serving) -> None:
    """Two owners may choose the same key; neither learns of the other's."""
    async with serving(guarded(settings)) as client:
        headers = [
            bearer(token(sub=name, owner=name, scope="tasks:write")) for name in ("a", "b", "a")
        ]
        answers = [await submit(client, **one) for one in headers]
    assert [answer.status_code for answer in answers] == [201, 201, 200]
    ids = [answer.json()["id"] for answer in answers]
    assert ids[0] == ids[2] != ids[1]


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server process."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskqueue_server", "--port", "0"),
        env=child_environ(settings, os.environ),
        stderr=subprocess.PIPE,
    )
    assert started.stderr is not None
    address = json.loads(await started.stderr.readline())["url"]
    limits = httpx.Limits(max_connections=25)
    try:
        async with httpx.AsyncClient(base_url=address, timeout=20, limits=limits) as client:
            yield client
    finally:
        started.terminate()
        await started.communicate()


async def test_fifty_at_once_over_two_processes(settings: Settings, broker: Broker) -> None:
    """They make one task, and one of the answers says that it is new."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(process(settings)) for _ in range(2)]
        for client in clients:
            assert (await client.get("/admin/health")).status_code == 200
        answers = await asyncio.gather(*(submit(clients[n % 2]) for n in range(50)))
        batches = await asyncio.gather(*(submit_many(clients[n % 2], 120, "k") for n in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    ids = {tuple(item["task"]["id"] for item in answer.json()["items"]) for answer in batches}
    assert len(ids) == 1
    assert (await broker.inspection.queue_stats()).backlog == 121
