from enum import StrEnum


class TaskRetryingType(StrEnum):
    TASK_RETRYING = "task.retrying"

    def __str__(self) -> str:
        return self.value
