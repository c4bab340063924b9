from enum import StrEnum


class WorkerResumedType(StrEnum):
    WORKER_RESUMED = "worker.resumed"

    def __str__(self) -> str:
        return self.value
