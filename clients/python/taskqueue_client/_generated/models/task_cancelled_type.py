from enum import StrEnum


class TaskCancelledType(StrEnum):
    TASK_CANCELLED = "task.cancelled"

    def __str__(self) -> str:
        return self.value
