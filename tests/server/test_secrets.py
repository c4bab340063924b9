"""No secret and nothing of a task's content leaves by the log, the metrics or an error."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from credentials import SECRET, bearer, guarded, token
from fleet import FakeWorker
from hosting import server_process
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskqueue_core.broker import Broker
from taskqueue_core.settings import Settings

pytestmark = pytest.mark.anyio

KEY = "canary-key-of-the-settings"
CANARY = "canary"


async def misbehave(address: str, stored: str) -> list[str]:
    """Show every secret in every place, right and wrong; return what was answered."""
    answers = []
    good = token(scope="admin", sub="canary-subject", jti="canary-id")
    expired = token(scope="admin", sub="canary-subject", exp=1)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as http:
        for shown in (KEY, stored, good, expired, "wrong-canary", stored[:-3] + "xyz"):
            for headers in (bearer(shown), {"X-API-Key": shown}):
                for path in ("/metrics", "/api/v1/tasks", f"/ws?token={shown}", "/nope?a=canary"):
                    response = await http.get(path, headers=headers)
                    answers.append(response.text)
            for uri in (f"ws://{address}/ws?token={shown}", f"ws://{address}/no?token={shown}"):
                try:
                    async with connect(uri, additional_headers={"Cookie": f"key={shown}"}):
                        pass
                except InvalidStatus as refused:
                    answers.append(refused.response.body.decode())
        body = {"type": "echo", "payload": {"canary": "canary"}, "metadata": {"canary": "canary"}}
        for content in (body, {**body, "more": "canary"}, {**body, "priority": "canary" * 200}):
            response = await http.post("/api/v1/tasks", json=content, headers=bearer(KEY))
            if response.status_code >= 400:
                answers.append(response.text)
        answers.append((await http.get("/metrics", headers=bearer(KEY))).text)
    return answers


async def test_nothing_secret_leaves(settings: Settings, broker: Broker, tmp_path: Path) -> None:
    """Keys, tokens, query strings, payloads and metadata are nowhere but where they belong."""
    stored, _ = await broker.api_keys.create(["admin"])
    path = tmp_path / "log"
    with path.open("wb") as log:
        chatty = guarded(settings, api_keys=(KEY,)).model_copy(update={"log_level": "debug"})
        async with server_process(chatty, log) as server:
            answers = await misbehave(server.address, stored)
    text = path.read_text()
    secrets = [KEY, CANARY, stored.split("_", 2)[2], SECRET, "eyJ", "token="]
    assert [secret for secret in secrets if secret in text] == []
    told = "\n".join(answers).replace("canary" * 200, "").replace("a=canary", "")
    leaked = [secret for secret in (KEY, stored, SECRET, "eyJ") if secret in told]
    assert leaked == []


async def test_no_content_in_events_and_metrics(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    """Payload, metadata and result of a task are read with the task, and nowhere else."""
    body = {"type": "echo", "payload": {"a": CANARY}, "metadata": {"b": CANARY}}
    answer = await client.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": CANARY})
    await worker.complete(await worker.take(), b'{"c":"canary"}')
    assert CANARY in (await client.get(answer.headers["location"])).text
    events = (await client.get("/api/v1/events?after=0")).json()
    kinds = [event["type"] for event in events["items"]]
    assert kinds[-3:] == ["task.submitted", "task.started", "task.completed"]
    assert CANARY not in str(events)
    for path in ("/metrics", "/admin/workers", "/admin/queues", "/admin/dlq"):
        assert CANARY not in (await client.get(path)).text


async def test_log_says_something(settings: Settings, broker: Broker, tmp_path: Path) -> None:
    """The test above would see a leak: what the server logs does arrive in that file."""
    queue = settings.queue.model_copy(update={"partitions": 2})
    path = tmp_path / "log"
    with path.open("wb") as log:
        async with (
            server_process(settings.model_copy(update={"queue": queue}), log) as server,
            httpx.AsyncClient(base_url=f"http://{server.address}", timeout=20) as http,
        ):
            assert (await http.get("/api/v1/tasks")).status_code in {200, 503}
    assert "was made with 1 partitions" in path.read_text()
