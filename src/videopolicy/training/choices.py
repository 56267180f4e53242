"""What of a recipe is chosen by a name; without torch, so that a command line can tell its options at once."""

from typing import Literal

Stage = Literal["video", "action", "joint"]
Precision = Literal["no", "bf16", "fp16"]
