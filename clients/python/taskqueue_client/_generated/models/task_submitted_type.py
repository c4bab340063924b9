from enum import StrEnum


class TaskSubmittedType(StrEnum):
    TASK_SUBMITTED = "task.submitted"

    def __str__(self) -> str:
        return self.value
