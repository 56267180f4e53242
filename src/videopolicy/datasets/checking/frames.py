"""What can be seen to be wrong in the pictures of one episode, block by block."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float32

from videopolicy.types import Frames

# No channel of any pixel above this, of 255: a covered lens or a missing picture, and video codecs' noise on it.
DARK = 24
# Mean colours of an 8 x 8 grid of cells, in levels of 255. A frame that is stored twice comes back within 0.1 from
# H.264 of rate 10 and 23; where a simulated robot moves slowly, some cell changes by 2 from one step to the next.
STILL = 0.75
# The same scene from the same place, coded twice.
SAME = 2.0
# Steps without any change, beyond which a view stands still.
STILL_STEPS = 15

_CELLS = 8
# Pixels on an image's shorter side that are enough for the cells.
_ENOUGH = 64

Cells = Float32[np.ndarray, "N 8 8 3"]


@dataclass(frozen=True)
class Stretch:
    """Steps start to stop - 1 of one view."""

    view: str
    start: int
    stop: int


class Pictures:
    """Looks at the frames of one episode as they come; call `finish` after the last block.

    Attributes:
        sizes: view -> the sizes (width, height) of its images.
        dark: stretches of frames without any light.
        still: stretches of more than `STILL_STEPS` frames in which nothing moves; dark ones are not among them.
        sketch: the cells of every view at the first, the middle and the last step, one after the other.

    Args:
        length: the steps of the episode.
    """

    def __init__(self, length: int) -> None:
        self._sketched = {0, length // 2, length - 1}
        self.sketch: list[np.ndarray] = []
        self.sizes: dict[str, set[tuple[int, int]]] = {}
        self.dark: list[Stretch] = []
        self.still: list[Stretch] = []
        self._step = 0
        self._since: dict[str, tuple[int, Float32[np.ndarray, "8 8 3"]]] = {}
        self._dark_since: dict[str, int] = {}
        self._alike: dict[tuple[str, str], bool] = {}

    def add(self, views: Mapping[str, Frames]) -> None:
        """The next block, the same number of frames in every view."""
        found = {view: cells(frames) for view, frames in views.items()}
        for view, frames in views.items():
            self.sizes.setdefault(view, set()).add((frames.shape[2], frames.shape[1]))
            dark = frames.reshape(len(frames), -1).max(1) <= DARK
            for offset, (mean, is_dark) in enumerate(zip(found[view], dark, strict=True)):
                self._follow(view, self._step + offset, mean, bool(is_dark))
        for one, other in combinations(found, 2):
            same = found[one].shape == found[other].shape and bool(np.abs(found[one] - found[other]).max() < SAME)
            self._alike[one, other] = self._alike.get((one, other), True) and same
        count = len(next(iter(found.values()), ()))
        for step in sorted(self._sketched.intersection(range(self._step, self._step + count))):
            self.sketch += [means[step - self._step].round().astype(np.uint8).ravel() for means in found.values()]
        self._step += count

    def finish(self) -> None:
        """Ends the stretches that last until the end."""
        for view in self.sizes:
            self._end_still(view, self._step)
            self._end_dark(view, self._step)

    @property
    def twins(self) -> list[tuple[str, str]]:
        """Pairs of views that show the same at every step, and are not dark throughout."""
        black = {stretch.view for stretch in self.dark if stretch.stop - stretch.start == self._step}
        return [pair for pair, same in self._alike.items() if same and not black.intersection(pair)]

    def _follow(self, view: str, step: int, mean: Float32[np.ndarray, "8 8 3"], is_dark: bool) -> None:
        if is_dark:
            self._dark_since.setdefault(view, step)
            self._end_still(view, step)
            return
        self._end_dark(view, step)
        since = self._since.get(view)
        # Against the first frame of the stretch, so that slow motion adds up.
        if since is None or np.abs(mean - since[1]).max() >= STILL:
            self._end_still(view, step)
            self._since[view] = step, mean

    def _end_still(self, view: str, step: int) -> None:
        since = self._since.pop(view, None)
        if since is not None and step - since[0] > STILL_STEPS:
            self.still.append(Stretch(view, since[0], step))

    def _end_dark(self, view: str, step: int) -> None:
        since = self._dark_since.pop(view, None)
        if since is not None:
            self.dark.append(Stretch(view, since, step))


def cells(frames: Frames) -> Cells:
    """The mean colours of an 8 x 8 grid over each frame; of fewer cells if the image has fewer pixels."""
    stride = max(1, min(frames.shape[1:3]) // _ENOUGH)
    means = frames[:, ::stride, ::stride].astype(np.float32)
    for axis in (1, 2):
        size = means.shape[axis]
        count = min(_CELLS, size)
        edges = np.arange(count + 1) * size // count
        shape = [-1 if a == axis else 1 for a in range(means.ndim)]
        means = np.add.reduceat(means, edges[:-1], axis) / np.diff(edges).astype(np.float32).reshape(shape)
    return means
