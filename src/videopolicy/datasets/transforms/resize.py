"""A data set whose frames are squares of one size."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.transforms.base import Derived
from videopolicy.types import Episode, Frames


class Resized(Derived):
    """A `videopolicy.datasets.base.Dataset` that shows another one with square frames; see `square`.

    Args:
        dataset: what is shown.
        size: pixels on each side.
    """

    def __init__(self, dataset: Dataset, size: int) -> None:
        super().__init__(dataset, size)
        self._size = size

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        episode = self.inner.episode(index, views, start, stop)
        return replace(episode, views={view: square(frames, self._size) for view, frames in episode.views.items()})


def square(frames: Frames, size: int) -> Frames:
    """The middle square of each frame at another size, (N, size, size, 3); frames that are so already stay untouched.

    Smaller frames are area averages: each pixel is the mean of what it covers. Larger ones are interpolated (bicubic).
    """
    height, width = frames.shape[1:3]
    if height == width == size:
        return frames
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    how = Image.Resampling.BOX if size <= side else Image.Resampling.BICUBIC
    resized = [np.asarray(Image.fromarray(frame).resize((size, size), how, box)) for frame in frames]
    return np.stack(resized) if resized else np.empty((0, size, size, 3), np.uint8)
