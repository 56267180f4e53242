"""What of a recipe is chosen by a name; without torch, so that a command line can tell its options at once."""

from typing import Literal

Stage = Literal["video", "action", "joint", "end_to_end"]
Precision = Literal["no", "bf16", "fp16"]

# The losses that a stage learns by.
PARTS: dict[Stage, tuple[str, ...]] = {
    "video": ("video",),
    "action": ("action",),
    "joint": ("video", "action"),
    "end_to_end": ("action",),
}
