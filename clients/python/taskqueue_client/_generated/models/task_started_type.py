from enum import StrEnum


class TaskStartedType(StrEnum):
    TASK_STARTED = "task.started"

    def __str__(self) -> str:
        return self.value
