"""What actions may be at most: each dimension's range, and its change from one control step to the next.

A checkpoint keeps the range of each dimension in its training data, but not the changes: `--limits training` holds
actions to the range alone. A file holds them to numbers of one's own, the changes included:

```toml
low = [-0.5, -0.5, 0.0]       # of each dimension, in the units of the actions
high = [0.5, 0.5, 0.4]
change = [0.05, 0.05, 0.02]   # from one action of a plan to the next; may be left out
```
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from videopolicy.clips.normalize import Normalizer
from videopolicy.configs import from_json
from videopolicy.errors import UserError

TRAINING = "training"
# Of the range, and of the numbers themselves: what rounding to float32 may add to an action at its end.
SLACK, ROUNDING = 1e-5, 1e-6


@dataclass(frozen=True)
class ActionLimits:
    """ActionLimits of each of D dimensions, in the units of the actions.

    Attributes:
        low: the smallest value.
        high: the largest.
        change: the largest difference between one action of a plan and the next; () if it is not limited. It says
            nothing of where one plan gives way to the next: that is for whoever executes them.

    Raises:
        UserError: they are of different lengths, or contradict each other.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    change: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.low or len(self.high) != len(self.low) or len(self.change) not in (0, len(self.low)):
            counts = f"{len(self.low)}, {len(self.high)} and {len(self.change)}"
            raise UserError(f"low, high and change have {counts} numbers; give one for each dimension of an action")
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if low > high:
                raise UserError(f"low[{index}] is {low:g}, above high[{index}], which is {high:g}")
        if any(change < 0 for change in self.change):
            raise UserError("a change is at least 0")

    @classmethod
    def of(cls, normalizer: Normalizer, relative: bool) -> "ActionLimits":
        """The ranges of the training data.

        Args:
            normalizer: fitted to the actions as the policy learnt them.
            relative: whether it learnt them as seen from the gripper, so that they say nothing of the robot's own.

        Raises:
            UserError: there are no such ranges.
        """
        if relative:
            raise UserError(
                "--limits training: this policy learnt relative actions, whose range is not the robot's; give a .toml "
                "file with low and high"
            )
        return cls(normalizer.low, normalizer.high)

    @classmethod
    def read(cls, path: Path) -> "ActionLimits":
        """The limits in a file.

        Raises:
            UserError: no such file, or a mistake in it.
        """
        return from_json(cls, read_toml(path, "limits"), file=path)

    def check_width(self, width: int) -> None:
        """Raises UserError if actions are not so wide."""
        if width != len(self.low):
            raise UserError(f"limits of {len(self.low)} dimensions, but an action has {width}")

    def apply(self, actions: Float32[np.ndarray, "A D"]) -> tuple[Float32[np.ndarray, "A D"], int]:
        """Actions within the limits, and how many numbers of them were beyond; where none was, the very same array."""
        low, high = np.array(self.low), np.array(self.high)
        slack = SLACK * (high - low) + ROUNDING * np.maximum(np.abs(low), np.abs(high))
        kept = np.where((actions < low - slack) | (actions > high + slack), actions.clip(low, high), actions)
        if self.change:
            change = np.array(self.change)
            for step in range(1, len(kept)):
                before = kept[step - 1]
                near = kept[step].clip(before - change, before + change)
                kept[step] = np.where(np.abs(kept[step] - before) > change + slack, near, kept[step])
        kept = kept.astype(np.float32)
        changed = int((kept != actions).sum())
        return (kept, changed) if changed else (actions, 0)


def read_toml(path: Path, what: str) -> dict[str, object]:
    """The values of a file.

    Raises:
        UserError: no such file, or it is no TOML.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; a .toml file with the {what} is needed")
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}") from error
