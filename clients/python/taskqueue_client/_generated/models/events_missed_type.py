from enum import StrEnum


class EventsMissedType(StrEnum):
    EVENTS_GAP = "events.gap"

    def __str__(self) -> str:
        return self.value
