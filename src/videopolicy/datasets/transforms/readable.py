"""A data set without the episodes that turn out to be damaged when they are read.

Nearly all data sets are sound: whoever reads all of one anyhow reads it `Checked`, and looks for what is damaged only
when something is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.blocks import blocks
from videopolicy.datasets.notes import Note, merged, refuse
from videopolicy.datasets.phrases import plural
from videopolicy.datasets.transforms.base import Derived
from videopolicy.durable import write_text
from videopolicy.errors import UserError
from videopolicy.types import Episode


class UnreadableError(UserError):
    """An episode cannot be used; `find_lost` says which others neither."""


class Checked(Derived):
    """A `videopolicy.datasets.base.Dataset` whose reading tells what cannot be used from all other errors.

    Args:
        dataset: what is shown, as it is.
        size: pixels on each side of a frame.
    """

    def __init__(self, dataset: Dataset, size: int) -> None:
        super().__init__(dataset, size)
        # What is made of it serves the one that is shown, too.
        self.fingerprint, self._size = dataset.fingerprint, size

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`.

        Raises:
            UnreadableError: it cannot be read, is cut short, or has frames of another size.
        """
        try:
            found = self.inner.episode(index, views, start, stop)
            _check(self.path, found, self._size, (self.length(index) if stop is None else stop) - start)
        except UserError as error:
            raise UnreadableError(str(error)) from error
        return found


class Readable(Derived):
    """A `videopolicy.datasets.base.Dataset` of another one's sound episodes.

    Args:
        dataset: what is shown.
        lost: episode, by its place in the other one -> why it is left out.

    Raises:
        UserError: none is left.
    """

    def __init__(self, dataset: Dataset, lost: Mapping[int, str]) -> None:
        super().__init__(dataset, sorted(lost))
        self._kept = [index for index in range(len(dataset)) if index not in lost]
        if not self._kept:
            first = next(iter(lost.values()))
            raise UserError(f"none of {plural(len(dataset), 'episode')} can be read: {first}")
        found = (Note("left out", why, (dataset.number(index),)) for index, why in lost.items())
        self.notes = (*dataset.notes, *merged(found))

    def __len__(self) -> int:
        return len(self._kept)

    def length(self, index: int) -> int:
        """The control steps of one episode, without decoding it."""
        return self.inner.length(self._kept[index])

    def number(self, index: int) -> int:
        """What the files call an episode; see `Dataset.number`."""
        return self.inner.number(self._kept[index])

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        return self.inner.episode(self._kept[index], views, start, stop)


def find_lost(
    dataset: Dataset, views: Sequence[str], size: int, tell: Callable[[int], object] = lambda steps: None
) -> dict[int, str]:
    """Reads everything once, and says which episodes cannot be used, and why.

    Args:
        dataset: any data set.
        views: those that are needed.
        size: pixels on each side of a frame.
        tell: is told how many more steps are read.
    """
    lost, checked = dict[int, str](), Checked(dataset, size)
    for index in range(len(dataset)):
        done = 0
        try:
            for start, stop, _ in blocks(checked, index, views):
                tell(stop - start)
                done = stop
        except UnreadableError as error:
            lost[index] = str(error)
        tell(dataset.length(index) - done)
    return lost


def _check(path: Path, block: Episode, size: int, steps: int) -> None:
    for view, frames in block.views.items():
        height, width = frames.shape[1:3]
        if (height, width) != (size, size):
            raise UserError(f"{path}: view {view!r} has {width}x{height} pixels, that of other episodes {size}x{size}")
    if len(block) != steps:
        raise UserError(f"{path}: {len(block)} steps were read where {steps} should be")


def readable(dataset: Dataset, lost: Mapping[int, str], strict: bool) -> Dataset:
    """The data set without what is lost.

    Raises:
        UserError: nothing is left, or it is `strict` and something is lost.
    """
    if not lost:
        return dataset
    found = Readable(dataset, lost)
    if strict:
        refuse(found.notes)
    return found


def remember(file: Path, lost: Mapping[int, str]) -> None:
    """Keeps what is lost, so that a run that goes on uses the same episodes as before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({str(index): why for index, why in lost.items()}, indent=2) + "\n")


def remembered(file: Path) -> dict[int, str] | None:
    """What `remember` kept; None if there is nothing."""
    if not file.is_file():
        return None
    try:
        return {int(index): str(why) for index, why in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        wrong = "not the list of episodes that cannot be read; remove it, and they are read again"
        raise UserError(f"{file}: {wrong}") from error
