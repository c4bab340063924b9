from enum import StrEnum


class WorkerJoinedType(StrEnum):
    WORKER_JOINED = "worker.joined"

    def __str__(self) -> str:
        return self.value
