from enum import StrEnum


class TaskDeadLetteredType(StrEnum):
    TASK_DEAD_LETTER = "task.dead_letter"

    def __str__(self) -> str:
        return self.value
