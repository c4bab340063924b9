from enum import StrEnum


class SystemMetricsReportedType(StrEnum):
    SYSTEM_METRICS = "system.metrics"

    def __str__(self) -> str:
        return self.value
