"""What an administrator does to many tasks is in the log: who, what, how many."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from checked import serve
from credentials import KEYS, bearer, guarded, token
from fleet import FakeWorker
from structlog.testing import capture_logs

from taskqueue_core.broker import Broker
from taskqueue_core.models import NewTask
from taskqueue_core.settings import Settings
from taskqueue_server.app import create_app

pytestmark = pytest.mark.anyio


async def dead_letters(broker: Broker, worker: FakeWorker, number: int) -> list[str]:
    """Make so many dead letters; return their ids."""
    ids = []
    for _ in range(number):
        ids.append((await broker.submit(NewTask(id=broker.new_task_id(), type="echo"))).id)
        await worker.fail(await worker.take())
    return ids


async def test_who_did_what(settings: Settings, broker: Broker, worker: FakeWorker) -> None:
    """Purging, retrying and clearing leave a line each, with the name of the key or token."""
    key, one = {"X-API-Key": KEYS[0]}, bearer(token(scope="admin", sub="ada"))
    (first, *_) = await dead_letters(broker, worker, 3)
    for _ in range(2):
        await broker.submit(NewTask(id=broker.new_task_id(), type="echo", priority=3))
    with capture_logs() as lines:
        async with serve(create_app(guarded(settings))) as http:
            dry = {"retry_all": True, "dry_run": True}
            await http.delete("/admin/queues/critical", headers=one)
            await http.post("/admin/dlq/retry", headers=key, json={"task_id": first})
            await http.post("/admin/dlq/retry", headers=key, json=dry)
            await http.post("/admin/dlq/retry", headers=key, json={"retry_all": True})
            await dead_letters(broker, worker, 1)
            await http.delete("/admin/dlq", headers=one)
            await http.delete("/admin/dlq", headers=bearer(token(scope="tasks:write")))
    assert noted(lines) == [
        {"action": "purge_queue", "by": "jwt:ada", "count": 2, "priority": "critical"},
        {"action": "retry_dead_letters", "by": "config:1", "count": 1, "task_id": first},
        {"action": "retry_dead_letters", "by": "config:1", "count": 2},
        {"action": "clear_dead_letters", "by": "jwt:ada", "count": 1},
    ]


async def test_without_authentication(client: httpx.AsyncClient) -> None:
    """Nobody is asked who they are, and the line says so."""
    with capture_logs() as lines:
        await client.delete("/admin/dlq")
    assert noted(lines) == [{"action": "clear_dead_letters", "by": "anybody", "count": 0}]


def noted(lines: list[Any]) -> list[dict[str, object]]:
    """Return what the log says about administrative actions."""
    found = [dict(line) for line in lines if line["event"] == "admin action"]
    return [
        {name: value for name, value in line.items() if name not in ("event", "log_level")}
        for line in found
    ]
