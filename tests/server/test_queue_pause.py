"""Pausing and resuming a priority through HTTP, and where it shows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fleet import FakeWorker
from prometheus_client.parser import text_string_to_metric_families

from taskqueue_core.broker import Broker

pytestmark = pytest.mark.anyio

NAMES = ("critical", "high", "normal", "low")


async def stats(client: httpx.AsyncClient, path: str = "/admin/queues") -> dict[str, Any]:
    """Return the statistics of each priority."""
    found: dict[str, Any] = (await client.get(path)).json()["queues"]
    return found


async def submit(client: httpx.AsyncClient, priority: int) -> str:
    """Submit a task and return its id."""
    response = await client.post("/api/v1/tasks", json={"type": "echo", "priority": priority})
    task_id: str = response.json()["id"]
    return task_id


async def test_answers(client: httpx.AsyncClient) -> None:
    """Both say what was done to which priority, and can be repeated."""
    for verb, done in (("pause", "paused"), ("resume", "resumed")):
        for _ in range(2):
            response = await client.post(f"/admin/queues/high/{verb}")
            assert response.status_code == 200
            assert response.json() == {"message": f"queue {done}", "priority": "high"}


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("name", ["urgent", "HIGH", "2", "%00"])
async def test_another_name(client: httpx.AsyncClient, verb: str, name: str) -> None:
    """A name that is no priority is refused with those that are; nothing is paused."""
    response = await client.post(f"/admin/queues/{name}/{verb}")
    assert response.status_code == 400
    assert response.json()["message"] == "priority: must be one of low, normal, high, critical"
    assert not any("paused" in depth for depth in (await stats(client)).values())


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/admin/queues"])
async def test_statistics(client: httpx.AsyncClient, path: str) -> None:
    """``paused`` is there while the priority is paused, beside what waits."""
    await submit(client, 2)
    plain = await stats(client, path)
    await client.post("/admin/queues/high/pause")
    assert await stats(client, path) == plain | {"high": plain["high"] | {"paused": True}}
    await client.post("/admin/queues/high/resume")
    assert await stats(client, path) == plain


async def test_no_task_starts(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    """Workers are given the others, and the paused ones afterwards."""
    high, low = await submit(client, 2), await submit(client, 0)
    await client.post("/admin/queues/high/pause")
    await worker.take()
    states = [(await client.get(f"/api/v1/tasks/{one}")).json()["state"] for one in (high, low)]
    assert states == ["pending", "running"]
    await client.post("/admin/queues/high/resume")
    await worker.take()
    assert (await client.get(f"/api/v1/tasks/{high}")).json()["state"] == "running"


async def gauge(client: httpx.AsyncClient, name: str) -> dict[str, float]:
    """Return the values of a metric by priority, "" where it has none."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    [found] = [family for family in families if family.name == f"taskqueue_{name}"]
    return {sample.labels.get("priority", ""): sample.value for sample in found.samples}


async def test_metric(client: httpx.AsyncClient) -> None:
    """A gauge of each priority is 1 while it is paused."""
    await client.post("/admin/queues/low/pause")
    assert await gauge(client, "queue_paused") == dict.fromkeys(NAMES, 0) | {"low": 1}


@pytest.mark.usefixtures("worker")
async def test_a_paused_task_has_a_worker(client: httpx.AsyncClient) -> None:
    """It waits because somebody wants it to, and that is how long it has waited."""
    await submit(client, 2)
    await client.post("/admin/queues/high/pause")
    waited = await gauge(client, "queue_oldest_waiting_seconds")
    while not waited["high"]:
        waited = await gauge(client, "queue_oldest_waiting_seconds")
    assert waited == dict.fromkeys(NAMES, 0) | {"high": waited["high"]}
    assert await gauge(client, "no_worker_tasks") == {"": 0}


async def test_events(client: httpx.AsyncClient, broker: Broker) -> None:
    """Each change is an event that the contract describes; a repeat is none."""
    for verb in ("pause", "pause", "resume"):
        await client.post(f"/admin/queues/normal/{verb}")
    query = {"events": "queue.paused,queue.resumed"}
    items = (await client.get("/api/v1/events", params=query)).json()["items"]
    assert [(item["type"], item["data"]) for item in items] == [
        ("queue.paused", {"priority": "normal"}),
        ("queue.resumed", {"priority": "normal"}),
    ]
