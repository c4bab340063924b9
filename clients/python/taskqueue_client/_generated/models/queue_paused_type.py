from enum import StrEnum


class QueuePausedType(StrEnum):
    QUEUE_PAUSED = "queue.paused"

    def __str__(self) -> str:
        return self.value
