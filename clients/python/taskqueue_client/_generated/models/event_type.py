from enum import StrEnum
from typing import Self


class EventType(StrEnum):
    EVENTS_GAP = "events.gap"
    QUEUE_DEPTH = "queue.depth"
    QUEUE_PAUSED = "queue.paused"
    QUEUE_RESUMED = "queue.resumed"
    SYSTEM_METRICS = "system.metrics"
    TASK_CANCELLED = "task.cancelled"
    TASK_COMPLETED = "task.completed"
    TASK_DEAD_LETTER = "task.dead_letter"
    TASK_FAILED = "task.failed"
    TASK_PROGRESS = "task.progress"
    TASK_QUEUED = "task.queued"
    TASK_RECOVERED = "task.recovered"
    TASK_RETRYING = "task.retrying"
    TASK_STARTED = "task.started"
    TASK_SUBMITTED = "task.submitted"
    WORKER_JOINED = "worker.joined"
    WORKER_LEFT = "worker.left"
    WORKER_PAUSED = "worker.paused"
    WORKER_RESUMED = "worker.resumed"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # A newer server may know more of them. Those with one value tell classes apart: they stay closed.
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown
