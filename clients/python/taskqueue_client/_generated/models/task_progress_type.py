from enum import StrEnum


class TaskProgressType(StrEnum):
    TASK_PROGRESS = "task.progress"

    def __str__(self) -> str:
        return self.value
