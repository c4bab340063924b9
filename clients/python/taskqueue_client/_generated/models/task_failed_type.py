from enum import StrEnum


class TaskFailedType(StrEnum):
    TASK_FAILED = "task.failed"

    def __str__(self) -> str:
        return self.value
