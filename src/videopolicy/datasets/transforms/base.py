"""A data set seen in another way, step by step as it is read; what all such ways have in common."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from videopolicy.datasets.base import Dataset
from videopolicy.types import Episode


class Derived:
    """A `videopolicy.datasets.base.Dataset` that shows another one as it is; what is below differs in some of it.

    Args:
        dataset: what is shown.
        recipe: what makes it differ, as JSON takes it; the fingerprint's second half.
    """

    def __init__(self, dataset: Dataset, recipe: Any) -> None:
        self.inner = dataset
        self.path, self.views, self.fps = dataset.path, dataset.views, dataset.fps
        self.tasks, self.notes = dataset.tasks, dataset.notes
        self.action_width, self.state_width = dataset.action_width, dataset.state_width
        self.action_layout, self.state_layout = dataset.action_layout, dataset.state_layout
        parts = json.dumps([dataset.fingerprint, type(self).__name__, recipe])
        self.fingerprint = hashlib.sha256(parts.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.inner)

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        return self.inner.length(index)

    def number(self, index: int) -> int:
        """What the files call an episode; see `Dataset.number`."""
        return self.inner.number(index)

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        return self.inner.episode(index, views, start, stop)
