from enum import StrEnum


class FrameRefusedType(StrEnum):
    FRAME_REFUSED = "frame.refused"

    def __str__(self) -> str:
        return self.value
