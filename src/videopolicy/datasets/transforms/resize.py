"""A data set whose frames are squares of one size."""

from collections.abc import Sequence
from dataclasses import replace

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.transforms.base import Derived
from videopolicy.images import fit_to_size
from videopolicy.types import Episode


class Resized(Derived):
    """A `videopolicy.datasets.base.Dataset` of another one's frames, squares; see `videopolicy.images.fit_to_size`.

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
        return replace(episode, views={view: fit_to_size(frames, self._size) for view, frames in episode.views.items()})
