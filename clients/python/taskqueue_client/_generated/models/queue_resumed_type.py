from enum import StrEnum


class QueueResumedType(StrEnum):
    QUEUE_RESUMED = "queue.resumed"

    def __str__(self) -> str:
        return self.value
