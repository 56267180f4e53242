"""What a conversion reads: a data set of any format, with the changes that were asked for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path

from videopolicy.datasets.base import SAME_RATE, Dataset, Rated
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.datasets.transforms.relabel import Relabeled
from videopolicy.datasets.transforms.resample import Resampled
from videopolicy.datasets.transforms.resize import Resized
from videopolicy.datasets.transforms.select import Selection
from videopolicy.datasets.transforms.turn import Flip, FrameTurn, Rotation, Turned
from videopolicy.errors import UserError

# They become parts of file names.
_VIEW = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True)
class ConversionSource:
    """A data set and how it is to be seen. Small, so that every process opens its own.

    Attributes:
        path: where it lies.
        format: a name from `videopolicy.datasets`; None looks at what is there.
        reading: what its files leave open.
        views: new name -> the data set's own, in the order wanted; None keeps all.
        fps: steps a second, see `Resampled`; None keeps them.
        size: pixels on each side, see `Resized`; None keeps the frames.
        instructions: the data set's own -> what is said instead.
        action_layout: what an action's dimensions mean; "" leaves it to the data set.
        state_layout: the same of the state.
        flip: new name of a view -> how its frames are flipped, see `FrameTurn`.
        rotate: new name of a view -> how far its frames are rotated, after they are flipped.
    """

    path: Path
    format: str | None = None
    reading: Reading = AS_IT_IS
    views: Mapping[str, str] | None = None
    fps: float | None = None
    size: int | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)
    action_layout: str = ""
    state_layout: str = ""
    flip: Mapping[str, Flip] = field(default_factory=dict)
    rotate: Mapping[str, Rotation] = field(default_factory=dict)

    def as_it_is(self) -> Dataset:
        """The data set before any change."""
        return open_any(self.path, self.format, self.reading)

    def open(self) -> tuple[Dataset, str]:
        """The data set as it is to be seen, and the fingerprint of what is on disk.

        Raises:
            UserError: it cannot be opened, or a change does not suit it.
        """
        dataset = opened = self.as_it_is()
        views = {_plain(view): view for view in dataset.views} if self.views is None else self.views
        if list(views.items()) != [(view, view) for view in dataset.views]:
            dataset = Selection(dataset, views)
        for view in dataset.views:
            if not _VIEW.fullmatch(view):
                raise UserError(f"{self.path}: {view!r} cannot be a view's name; letters, digits, '.', '_' and '-' can")
        if self.flip or self.rotate:
            turned = dict.fromkeys((*self.flip, *self.rotate))
            turns = {view: FrameTurn(self.flip.get(view), self.rotate.get(view)) for view in turned}
            dataset = Turned(dataset, turns)
        if self.instructions or self.action_layout or self.state_layout:
            dataset = Relabeled(dataset, self.instructions, self.action_layout, self.state_layout)
        if self.fps is None and isinstance(opened, Rated):
            _refuse_several_rates(opened, opened.fps)
        if self.fps is not None:
            dataset = Resampled(dataset, self.fps)
        return dataset if self.size is None else Resized(dataset, self.size), opened.fingerprint


def _refuse_several_rates(dataset: Rated, usual: float) -> None:
    for file, fps in dataset.rates():
        if not isclose(fps, usual, rel_tol=SAME_RATE):
            raise UserError(f"{file}: {fps:g} frames a second, most others {usual:g}; --fps {usual:g} brings all to it")


def _plain(view: str) -> str:
    """The name as it can be part of a file's name."""
    return view.replace("/", ".")
