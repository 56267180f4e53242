"""What was read from video, on disk and in the data set that it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.mixture import open_sources
from videopolicy.datasets.notes import Note
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.datasets.transforms.base import Derived
from videopolicy.errors import UserError
from videopolicy.types import Episode


@dataclass(frozen=True)
class EpisodeLabels:
    """The actions of an episode, and how far they can be relied on.

    Attributes:
        actions: one a step, in the env's own units.
        confidence: 0 to 1; see `videopolicy.labelling`.
    """

    actions: Float32[np.ndarray, "N D"]
    confidence: float

    def save(self, file: Path) -> None:
        """Writes them; the file appears whole or not at all, in a folder beside which there is room."""
        aside = file.parent.with_name("labels.partial")
        with aside.open("wb") as opened:
            np.savez(opened, actions=self.actions, confidence=self.confidence)
        aside.replace(file)

    @classmethod
    def load(cls, file: Path) -> "EpisodeLabels":
        """Those that `save` wrote."""
        with np.load(file, allow_pickle=False) as kept:
            return cls(kept["actions"], float(kept["confidence"]))


@dataclass(frozen=True)
class Labelling:
    """What was read, from what and by what; small, so that every process opens its own.

    Attributes:
        folder: of the labels, a file an episode.
        by: names what read them.
        action_width: D.
        action_layout: what the dimensions of an action mean, "" if unspecified.
    """

    folder: str
    by: str
    action_width: int
    action_layout: str

    def file(self, number: int) -> Path:
        """Where the labels of an episode are, by its number in the data set."""
        return Path(self.folder) / f"{number:06d}.npz"


class Labelled(Derived):
    """A `videopolicy.datasets.base.Dataset` whose episodes without actions have the labels that were read of them.

    Args:
        dataset: what is shown.
        labelling: the labels, of all of its episodes without actions.
        numbers: of these episodes.
    """

    def __init__(self, dataset: Dataset, labelling: Labelling, numbers: Sequence[int]) -> None:
        super().__init__(dataset, [labelling.by, list(numbers)])
        self._labelling, self._numbers = labelling, frozenset(numbers)
        self.action_width: int | None = labelling.action_width
        self.action_layout = labelling.action_layout
        told = Note("assumed", f"actions, read from the video by inverse dynamics of {labelling.by}", tuple(numbers))
        self.notes = (*(note for note in dataset.notes if note.kind != "video only"), told)

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        episode, number = self.inner.episode(index, views, start, stop), self.inner.number(index)
        if number not in self._numbers:
            return episode
        labels = EpisodeLabels.load(self._labelling.file(number))
        actions = labels.actions[start:stop]
        return replace(episode, actions=actions, labelled_by=self._labelling.by, confidence=labels.confidence)


@dataclass(frozen=True)
class LabelledSource(ConversionSource):
    """A data set with labels, on its way into one of the project's own.

    Attributes:
        labelling: the labels.
        numbers: of the episodes that have them.
    """

    labelling: Labelling = Labelling("", "", 1, "")
    numbers: tuple[int, ...] = ()

    def as_it_is(self) -> Dataset:
        """See `ConversionSource.as_it_is`."""
        return Labelled(open_one(self.path, self.format, self.reading), self.labelling, self.numbers)


def open_one(path: Path, format: str | None = None, reading: Reading = AS_IT_IS) -> Dataset:
    """A data set, or the only one of a list, which says how it is to be seen (see `videopolicy.datasets.mixture`).

    Raises:
        UserError: what `open_sources` refuses; or a list of several.
    """
    sources = open_sources([path], format, reading)
    first, *others = sources
    if others:
        raise UserError(f"{path} lists {len(sources)} data sets; label one at a time, each from a list of its own")
    return first.dataset
