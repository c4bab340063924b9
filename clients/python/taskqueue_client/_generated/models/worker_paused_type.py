from enum import StrEnum


class WorkerPausedType(StrEnum):
    WORKER_PAUSED = "worker.paused"

    def __str__(self) -> str:
        return self.value
