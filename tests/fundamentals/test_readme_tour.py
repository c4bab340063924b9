"""What the README tells a newcomer to try, one concept a test, through the public API alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from system import System, wait_for

DEPTHS = {"critical", "high", "normal", "low"}


def rfc3339(moment: datetime) -> str:
    """Return a time as clients write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def dead_letter(system: System, **task: Any) -> dict[str, Any]:
    """Return a task that failed for good."""
    task_id = system.submit(type="fail", max_retries=0, **task)["id"]
    return system.wait(task_id, "dead_letter")


def test_an_immediate_task_is_completed(system: System) -> None:
    """A submitted task runs and keeps its result."""
    task = system.submit(type="echo", payload={"message": "Hello, World!"}, priority=2)
    assert task["state"] == "pending"
    assert task["priority"] == "high"
    done = system.wait(task["id"], "completed")
    assert done["result"]["echoed"] == {"message": "Hello, World!"}
    assert done["attempts"] == 1
    assert done["worker_id"]


def test_a_scheduled_task_waits_for_its_time(system: System) -> None:
    """A task for later is scheduled, then completed, and never early."""
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    task = system.submit(type="echo", payload={}, scheduled_at=rfc3339(at))
    assert task["state"] == "scheduled"
    done = system.wait(task["id"], "completed")
    assert datetime.fromisoformat(done["started_at"]) >= at - timedelta(milliseconds=1)
    assert datetime.fromisoformat(done["started_at"]) <= at + timedelta(seconds=1)


def test_a_waiting_task_can_be_cancelled(system: System) -> None:
    """Cancelling ends a task that has not started, and only such a one."""
    task = system.submit(
        type="echo", scheduled_at=rfc3339(datetime.now(UTC) + timedelta(minutes=1))
    )
    answer = system.http.delete(f"/api/v1/tasks/{task['id']}")
    assert answer.status_code == 200
    assert answer.json()["state"] == "cancelled"
    assert system.http.delete(f"/api/v1/tasks/{task['id']}").status_code == 409


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/admin/queues"])
def test_depths_are_told_per_priority(system: System, path: str) -> None:
    """Both addresses answer how many tasks wait."""
    body = system.http.get(path).json()
    assert set(body["queues"]) == DEPTHS
    assert set(body["totals"]) == {"queued", "pending_unacked", "deferred"}
    assert {"scheduled_count", "dlq_size"} <= set(body)


def test_a_paused_worker_takes_nothing(system: System) -> None:
    """A pause holds from the moment it is answered; resuming lets tasks run."""
    worker_id = system.http.get("/admin/workers").json()["workers"][0]["id"]
    answer = system.http.post(f"/admin/workers/{worker_id}/pause")
    assert answer.json() == {"message": "worker paused", "worker_id": worker_id}
    try:
        assert system.http.get(f"/admin/workers/{worker_id}").json()["state"] == "paused"
        task = system.submit(type="echo")
        assert not wait_for(lambda: system.get(task["id"])["state"] != "pending", 0.5)
    finally:
        answer = system.http.post(f"/admin/workers/{worker_id}/resume")
    assert answer.json() == {"message": "worker resumed", "worker_id": worker_id}
    system.wait(task["id"], "completed")


def test_a_task_out_of_retries_is_a_dead_letter_that_can_be_retried(system: System) -> None:
    """Dead letters show why they failed, and run again when asked to."""
    task = dead_letter(system, payload={"message": "no luck"})
    entries = system.http.get("/admin/dlq").json()["entries"]
    entry = next(entry for entry in entries if entry["task_id"] == task["id"])
    assert entry["original_error"] == "no luck"
    assert entry["task"]["type"] == "fail"
    answer = system.http.post(f"/admin/tasks/{task['id']}/retry")
    assert answer.json() == {"message": "task re-queued", "task_id": task["id"]}
    again = system.wait(task["id"], "dead_letter")
    assert again["deliveries"] == 2


def test_dead_letters_are_retried_one_by_one_or_all_together(system: System) -> None:
    """Both ways of the dead letter queue's retry."""
    task = dead_letter(system)
    one = system.http.post("/admin/dlq/retry", json={"task_id": task["id"]})
    assert one.json() == {"message": "task re-queued", "task_id": task["id"]}
    assert wait_for(lambda: system.get(task["id"])["deliveries"] == 2)
    system.wait(task["id"], "dead_letter")
    everything = system.http.post("/admin/dlq/retry", json={"retry_all": True})
    assert everything.json()["message"] == "tasks re-queued"
    assert everything.json()["retried_count"] >= 1
    assert system.http.post("/admin/dlq/retry").status_code == 400


def test_cleared_dead_letters_are_failed(system: System) -> None:
    """Clearing gives dead letters up without losing their record."""
    task = dead_letter(system)
    answer = system.http.delete("/admin/dlq")
    assert answer.json()["message"] == "DLQ cleared"
    assert answer.json()["cleared_count"] >= 1
    assert system.get(task["id"])["state"] == "failed"


def test_a_purge_cancels_what_waits_at_a_priority(system: System) -> None:
    """Purged tasks end as cancelled, none stays pending for ever."""
    worker_id = system.http.get("/admin/workers").json()["workers"][0]["id"]
    system.http.post(f"/admin/workers/{worker_id}/pause")
    try:
        task = system.submit(type="echo", priority=0)
        answer = system.http.delete("/admin/queues/low")
    finally:
        system.http.post(f"/admin/workers/{worker_id}/resume")
    assert answer.json() == {"message": "queue purged", "priority": "low", "purged_count": 1}
    assert system.get(task["id"])["state"] == "cancelled"
    assert system.http.delete("/admin/queues/lowest").status_code == 400


def test_health_and_metrics_are_served(system: System) -> None:
    """Health says what it found, metrics are Prometheus text."""
    health = system.http.get("/admin/health").json()
    assert {check["status"] for check in health.pop("checks").values()} == {"ok"}
    assert health == {"status": "healthy", "redis": "connected"}
    for path in ("/health", "/health/live", "/health/ready"):
        assert system.http.get(path).status_code == 200
    assert "taskqueue_tasks_submitted_total" in system.http.get("/metrics").text
