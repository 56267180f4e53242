"""Whether what a policy is shown lies as the frames did that it learnt from, or mirrored or on its head.

Published demonstrations are often turned. A policy that learnt from them fails where nothing is, and nothing else says
why.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from videopolicy.clips.statistics import CELLS, FrameStatistics
from videopolicy.datasets.transforms.turn import TURNS, Turn
from videopolicy.images import fit_to_size
from videopolicy.types import Image

# All measured, see experiments/orientation: no view of any env is called turned that is not, and most are that are.
# A turn is named if it fits so well, and so much better than none; of fewer episodes the usual place is not known.
FIT, MARGIN, FEWEST = 0.6, 0.3, 8
# Added to the standard deviation of a pixel, of 255: what never changed in training may differ a little elsewhere.
SLACK = 32.0


def fits(statistics: FrameStatistics, image: Image) -> dict[Turn, float]:
    """How well an image fits the training frames of its view, turned in each of the eight ways.

    Returns:
        Each turn, and the correlation of the image so turned with the training frames' mean, -1 to 1: over the pixels
        of each colour, those that vary little in training counting most.
    """
    mean, deviation = statistics.arrays()
    weight = 1 / (deviation**2 + SLACK**2)
    seen = fit_to_size(image[None], CELLS)
    return {turn: _correlation(turn.apply(seen)[0].astype(float), mean, weight) for turn in TURNS}


def better(statistics: FrameStatistics, image: Image) -> tuple[Turn, float, float] | None:
    """The turn that fits clearly better than none, how well it does, and how well none does; None if none is."""
    found = fits(statistics, image)
    best = max(found, key=lambda turn: found[turn])
    as_it_comes = found[TURNS[0]]
    clear = found[best] >= FIT and found[best] - as_it_comes >= MARGIN
    return (best, found[best], as_it_comes) if clear and statistics.count >= FEWEST else None


def compare(frames: Mapping[str, FrameStatistics], images: Mapping[str, Image]) -> Iterator[str]:
    """A line for each view that seems to be turned, with the options of `videopolicy convert` that mend it.

    Args:
        frames: view -> what its training frames look like when an episode begins.
        images: what is seen when one begins.
    """
    for view, statistics in frames.items():
        if view in images and (found := better(statistics, images[view])):
            turn, fit, as_it_comes = found
            yield (
                f"view {view} fits the training frames better {turn} ({fit:.2f}) than as it comes ({as_it_comes:.2f}); "
                f"if the demonstrations were turned, convert them with {turn.inverse.options(view)} and train again"
            )


def _correlation(
    one: Float[np.ndarray, "c c 3"], other: Float[np.ndarray, "c c 3"], weight: Float[np.ndarray, "c c 3"]
) -> float:
    """Of two pictures, weighted, about the mean of each colour, so that neither brightness nor tint counts."""
    weight = weight / weight.sum((0, 1))
    one, other = (picture - (weight * picture).sum((0, 1)) for picture in (one, other))
    size = np.sqrt((weight * one**2).sum() * (weight * other**2).sum())
    return float((weight * one * other).sum() / size) if size > 0 else 0.0
