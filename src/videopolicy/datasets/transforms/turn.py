"""A data set some of whose views are turned: mirrored, or by quarters of a full turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.notes import Note
from videopolicy.datasets.transforms.base import Derived
from videopolicy.errors import UserError, unknown
from videopolicy.types import Episode, Frames

Flip = Literal["horizontal", "vertical", "both"]
Rotation = Literal[90, 180, 270]

FLIPS: tuple[Flip, ...] = ("horizontal", "vertical", "both")
ROTATIONS: tuple[Rotation, ...] = (90, 180, 270)
_FLIPPED = {"horizontal": "flipped horizontally", "vertical": "flipped vertically", "both": "flipped both ways"}
# Axes of frames (N, H, W, 3) that are reversed.
_REVERSED = {None: (), "horizontal": (2,), "vertical": (1,), "both": (1, 2)}


@dataclass(frozen=True)
class FrameTurn:
    """How frames are turned: flipped, then rotated.

    Attributes:
        flip: "horizontal" if left and right change places, "vertical" if top and bottom do; None for neither.
        rotate: degrees counter-clockwise, a quarter of a full turn once, twice or thrice; None for none.

    Raises:
        UserError: anything else.
    """

    flip: Flip | None = None
    rotate: Rotation | None = None

    def __post_init__(self) -> None:
        if self.flip not in _REVERSED:
            raise UserError(f"frames are flipped {', '.join(FLIPS)}, not {self.flip!r}")
        if self.rotate not in (None, *ROTATIONS):
            raise UserError(f"frames are rotated by 90, 180 or 270 degrees, not by {self.rotate}")

    def apply(self, frames: Frames) -> Frames:
        """Turned frames (N, H, W, 3); by 90 or 270 degrees, their height and width change places."""
        flipped = np.flip(frames, _REVERSED[self.flip])
        return np.ascontiguousarray(np.rot90(flipped, (self.rotate or 0) // 90, axes=(1, 2)))

    @property
    def inverse(self) -> "FrameTurn":
        """What brings turned frames back."""
        # Mirrored once, and turned however far: the same again brings it back.
        if self.flip in ("horizontal", "vertical"):
            return self
        turned = (self.rotate or 0) + (180 if self.flip == "both" else 0)
        return next(turn for turn in TURNS[:4] if ((turn.rotate or 0) + turned) % 360 == 0)

    def options(self, view: str) -> str:
        """The options of `videopolicy convert` that turn a view so."""
        given = (("--flip", self.flip), ("--rotate", self.rotate))
        return " ".join(f"{option} {view}={value}" for option, value in given if value)

    def __str__(self) -> str:
        said = [_FLIPPED[self.flip]] if self.flip else []
        if self.rotate:
            said.append(f"rotated by {self.rotate} degrees{'' if self.rotate == 180 else ' counter-clockwise'}")
        return ", then ".join(said) or "as they are"


# Every way in which a square can lie on itself; the first leaves it as it is.
TURNS = (
    FrameTurn(),
    *(FrameTurn(rotate=rotation) for rotation in ROTATIONS),
    FrameTurn("horizontal"),
    FrameTurn("vertical"),
    FrameTurn("horizontal", 90),
    FrameTurn("horizontal", 270),
)


class Turned(Derived):
    """A `videopolicy.datasets.base.Dataset` that shows another one with the frames of some views turned.

    Args:
        dataset: what is shown.
        turns: view -> how it is turned; the others stay as they are.

    Raises:
        UserError: the data set lacks a view.
    """

    def __init__(self, dataset: Dataset, turns: Mapping[str, FrameTurn]) -> None:
        for view in turns:
            if view not in dataset.views:
                raise UserError(f"{dataset.path}: {unknown('view', view, dataset.views)}")
        super().__init__(dataset, {view: [turn.flip, turn.rotate] for view, turn in turns.items()})
        self._turns = dict(turns)
        told = [
            Note("mended", f"{dataset.path}: the frames of view {view} are {turn}, as was asked")
            for view, turn in turns.items()
        ]
        self.notes = (*dataset.notes, *told)

    def episode(
        self, index: int, views: Sequence[str] | None = None, start: int = 0, stop: int | None = None
    ) -> Episode:
        """One episode, or its control steps start to stop - 1; see `Dataset.episode`."""
        episode = self.inner.episode(index, views, start, stop)
        turned = {view: turn.apply(episode.views[view]) for view, turn in self._turns.items() if view in episode.views}
        return replace(episode, views={**episode.views, **turned})
