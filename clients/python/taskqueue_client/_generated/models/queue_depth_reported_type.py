from enum import StrEnum


class QueueDepthReportedType(StrEnum):
    QUEUE_DEPTH = "queue.depth"

    def __str__(self) -> str:
        return self.value
