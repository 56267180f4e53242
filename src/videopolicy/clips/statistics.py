"""What a checkpoint keeps of its training data: the ranges of actions and states, and what frames look like."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field

import numpy as np
from jaxtyping import Float

from videopolicy.clips.normalize import Normalizer
from videopolicy.configs import check_limits, from_json, limited, to_json
from videopolicy.datasets.base import Dataset
from videopolicy.errors import UserError
from videopolicy.images import fit_to_size
from videopolicy.types import Frames
from videopolicy.upgrades import upgrade_statistics

# Cells on each side of what is kept of a frame: enough to tell which way up it is.
CELLS = 16
# Episodes whose first frames are looked at.
LOOKED_AT = 64


@dataclass(frozen=True)
class FrameStatistics:
    """What one view's episodes look like when they begin, coarsely: each frame is CELLS x CELLS pixels.

    Attributes:
        count: episodes.
        mean: of each pixel, row by row, red, green and blue, 0 to 255; CELLS * CELLS * 3 numbers.
        deviation: the standard deviation of each, likewise.
    """

    count: int = limited(MISSING, 1, 10**9)
    mean: tuple[float, ...] = limited(MISSING, 0, 255)
    deviation: tuple[float, ...] = limited(MISSING, 0, 255)

    def __post_init__(self) -> None:
        check_limits(self, "frames")
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) != CELLS * CELLS * 3:
                raise UserError(f"{name} has {len(values)} numbers; it takes {CELLS * CELLS * 3}")

    @classmethod
    def of(cls, frames: Frames) -> "FrameStatistics":
        """Of one frame of each episode, in any size."""
        values = fit_to_size(frames, CELLS).reshape(len(frames), -1).astype(float)
        # More digits say nothing, and cost a file that is read by people, too.
        mean, deviation = values.mean(0).round(1).tolist(), values.std(0).round(1).tolist()
        return cls(len(frames), tuple(mean), tuple(deviation))

    def arrays(self) -> tuple[Float[np.ndarray, "c c 3"], Float[np.ndarray, "c c 3"]]:
        """Mean and standard deviation as pictures."""
        shape = (CELLS, CELLS, 3)
        return np.reshape(self.mean, shape), np.reshape(self.deviation, shape)


@dataclass(frozen=True)
class Statistics:
    """What `statistics.json` of a checkpoint holds.

    Attributes:
        actions: ranges that the normaliser was fitted to; None if the model has no actions.
        frames: view -> what its training frames look like; {} if unknown.
        states: ranges that the normaliser of the robot's state was fitted to; None if the model reads no state.
    """

    actions: Normalizer | None = None
    frames: dict[str, FrameStatistics] = field(default_factory=dict)
    states: Normalizer | None = None

    def to_json(self) -> str:
        """JSON text that `from_json` reads back without loss."""
        return json.dumps(to_json(self))

    @classmethod
    def from_json(cls, text: str) -> "Statistics":
        """What `to_json` wrote, or the ranges alone, as checkpoints had them before they knew of frames.

        Raises:
            UserError: the text is something else.
        """
        try:
            return from_json(cls, upgrade_statistics(json.loads(text)))
        except (ValueError, UserError) as error:
            what = "JSON with ranges of actions, lists 'low' and 'high'"
            raise UserError(f"not the statistics of a checkpoint ({what}): {error}") from error


def first_frames(
    datasets: Sequence[Dataset], episodes: Sequence[tuple[int, int]], views: Sequence[str]
) -> Mapping[str, FrameStatistics]:
    """What each view shows when episodes begin.

    Args:
        datasets: what is learnt from.
        episodes: those of them that are: data set and number; of many, some evenly spaced ones are read.
        views: the model's.
    """
    chosen = np.unique(np.linspace(0, len(episodes) - 1, LOOKED_AT).round().astype(int)).tolist()
    seen = [datasets[source].episode(number, views, 0, 1).views for source, number in (episodes[at] for at in chosen)]
    return {view: FrameStatistics.of(np.concatenate([frames[view] for frames in seen])) for view in views}
