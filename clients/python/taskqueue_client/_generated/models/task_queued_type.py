from enum import StrEnum


class TaskQueuedType(StrEnum):
    TASK_QUEUED = "task.queued"

    def __str__(self) -> str:
        return self.value
