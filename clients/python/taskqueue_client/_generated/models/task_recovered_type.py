from enum import StrEnum


class TaskRecoveredType(StrEnum):
    TASK_RECOVERED = "task.recovered"

    def __str__(self) -> str:
        return self.value
