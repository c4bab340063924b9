"""The operations of the contract: one module per tag, one method per operationId."""

from __future__ import annotations

from taskqueue_server.messages import Operation
from taskqueue_server.operations.dead_letters import DeadLetterOperations
from taskqueue_server.operations.events import EventOperations
from taskqueue_server.operations.queues import QueueOperations
from taskqueue_server.operations.search import SearchOperations
from taskqueue_server.operations.system import SystemOperations
from taskqueue_server.operations.task_types import TaskTypeOperations
from taskqueue_server.operations.tasks import TaskOperations
from taskqueue_server.operations.workers import WorkerOperations
from taskqueue_server.services import Services

__all__ = ["operation_table"]


def operation_table(services: Services) -> dict[str, Operation]:
    """Return the table of the API: operationId -> the operation that answers it."""
    tasks = TaskOperations(services)
    queues = QueueOperations(services)
    workers = WorkerOperations(services)
    dead_letters = DeadLetterOperations(services)
    search = SearchOperations(services)
    task_types = TaskTypeOperations(services)
    events = EventOperations(services)
    system = SystemOperations(services)
    return {
        "create_task": tasks.create_task,
        "create_tasks": tasks.create_tasks,
        "get_task": tasks.get_task,
        "cancel_task": tasks.cancel_task,
        "list_attempts": tasks.list_attempts,
        "retry_task": tasks.retry_task,
        "search_tasks": search.search_tasks,
        "list_task_types": task_types.list_task_types,
        "get_queue_stats": queues.get_queue_stats,
        "list_queues": queues.list_queues,
        "purge_queue": queues.purge_queue,
        "pause_queue": queues.pause_queue,
        "resume_queue": queues.resume_queue,
        "list_workers": workers.list_workers,
        "get_worker": workers.get_worker,
        "pause_worker": workers.pause_worker,
        "resume_worker": workers.resume_worker,
        "list_dead_letters": dead_letters.list_dead_letters,
        "list_dead_letter_groups": dead_letters.list_dead_letter_groups,
        "retry_dead_letters": dead_letters.retry_dead_letters,
        "clear_dead_letters": dead_letters.clear_dead_letters,
        "health_check": system.health_check,
        "get_liveness": system.get_liveness,
        "check_live": system.check_live,
        "check_ready": system.check_ready,
        "get_metrics": system.get_metrics,
        "list_events": events.list_events,
        "connect_websocket": events.connect_websocket,
    }
