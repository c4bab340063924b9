"""Every status that the contract documents can be reached: one recipe for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from answers import operations
from checked import ready, serve
from credentials import SECRET, bearer, token
from fleet import FakeWorker
from limited import exhaust

from taskqueue_core.broker import Broker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import AuthSettings, RedisSettings, ServerSettings, Settings
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio

_CASES = [
    (path, method, operation["operationId"], status)
    for path, method, operation in operations()
    for status in operation["responses"]
    if operation["operationId"] != "connect_websocket" or status != "101"
]
_JSON = {"content-type": "application/json"}
_KEYED = _JSON | {"idempotency-key": "order-1"}
_BODIES = {
    "create_task": b'{"type":"echo"}',
    "create_tasks": b'{"tasks":[{"type":"echo"}]}',
    "retry_dead_letters": b'{"retry_all":true}',
}
_AWAY = RedisSettings(url="redis://127.0.0.1:1", max_retries=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What makes the request of a case different from one that succeeds.

    With ``first`` a request with that body comes before.
    """

    settings: dict[str, Any] | None = None
    query: str = ""
    body: Callable[[bytes], Any] = bytes
    first: Callable[[bytes], bytes] | None = None
    headers: Callable[[], dict[str, str]] = lambda: _JSON


async def _stuck(_body: bytes = b"") -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


_RECIPES = {
    "200": Recipe(),
    "201": Recipe(),
    "202": Recipe(query="?running=true"),
    "400": Recipe(query="?no-such-parameter=1"),
    "401": Recipe(settings={"auth": AuthSettings(enabled=True, api_keys=("k",))}),
    "403": Recipe(
        settings={"auth": AuthSettings(enabled=True, jwt_secret=SECRET)},
        headers=lambda: _JSON | bearer(token()),
    ),
    "404": Recipe(body=lambda _: b'{"task_id":"no-such-task"}'),
    "408": Recipe(settings={"server": ServerSettings(read_timeout_seconds=0.05)}, body=_stuck),
    "409": Recipe(),
    "413": Recipe(settings={"server": ServerSettings(max_body_bytes=5)}),
    "415": Recipe(headers=dict),
    "422": Recipe(headers=lambda: _KEYED, first=lambda body: body + b" "),
    "426": Recipe(),
    "429": Recipe(),
    "503": Recipe(settings={"redis": _AWAY}),
}
_REPEATED = Recipe(headers=lambda: _KEYED, first=bytes)
#: These ask the broker for nothing but who has a stored key.
_WITHOUT_BROKER = Recipe(
    settings={"redis": _AWAY, "auth": AuthSettings(enabled=True)},
    headers=lambda: {"X-API-Key": "tq_00000000_" + "a" * 43},
)


@pytest.fixture
async def task_id(broker: Broker, worker: FakeWorker) -> str:
    """Return a dead letter: it can be retried, it cannot be cancelled."""
    task_id = (await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))).id
    await worker.fail(await worker.take())
    return task_id


@pytest.mark.parametrize(("path", "method", "operation_id", "status"), _CASES)
async def test_documented_status(
    settings: Settings,
    broker: Broker,
    task_id: str,
    worker: FakeWorker,
    path: str,
    method: str,
    operation_id: str,
    status: str,
) -> None:
    """The recipe for the status brings it about."""
    recipe = _RECIPES[status]
    if status == "503" and operation_id in {"get_metrics", "connect_websocket"}:
        recipe = _WITHOUT_BROKER
    if (operation_id, status) == ("create_task", "200"):
        recipe = _REPEATED
    if status == "429":
        await exhaust(broker)
    if (operation_id, status) in {("cancel_task", "200"), ("retry_task", "409")}:
        await broker.retry(task_id)
    if status == "202":
        await broker.retry(task_id)
        await worker.take()
    names = {"task_id": task_id, "worker_id": "worker-1", "priority": "low"}
    if status == "404":
        names = dict.fromkeys(names, "nobody")
    body = _BODIES.get(operation_id)
    async with serve(create_app(settings.model_copy(update=recipe.settings))) as client:
        if (operation_id, status) == ("check_ready", "200"):
            await ready(client)
        if recipe.first and body:
            await client.request(method, path, content=recipe.first(body), headers=recipe.headers())
        response = await client.request(
            method,
            path.format(**names) + recipe.query,
            content=None if body is None else recipe.body(body),
            headers=recipe.headers(),
        )
    assert str(response.status_code) == status
