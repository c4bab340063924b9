from enum import StrEnum


class WorkerLeftType(StrEnum):
    WORKER_LEFT = "worker.left"

    def __str__(self) -> str:
        return self.value
