from enum import StrEnum


class TaskCompletedType(StrEnum):
    TASK_COMPLETED = "task.completed"

    def __str__(self) -> str:
        return self.value
