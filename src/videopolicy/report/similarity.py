"""How near an imagined frame is to the executed one, and what "nothing moves" would have scored."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from videopolicy.similarity import CEILING, psnr, ssim
from videopolicy.types import Image


@dataclass(frozen=True)
class Pair:
    """One imagined frame held against the executed frame of the same control step, in one view.

    Attributes:
        offset: control steps from the plan to the frame.
        psnr: of the imagined frame, in dB, at most `CEILING`.
        ssim: of the imagined frame.
        still_psnr: of the frame that was current when the plan was made, that is of "nothing moves".
        still_ssim: of that same frame.
    """

    offset: int
    psnr: float
    ssim: float
    still_psnr: float
    still_ssim: float


def compare(offset: int, imagined: Image, executed: Image, current: Image) -> Pair:
    """Measures one imagined frame, and beside it the baseline that repeats the current frame."""
    return Pair(
        offset,
        min(psnr(imagined, executed), CEILING),
        ssim(imagined, executed),
        min(psnr(current, executed), CEILING),
        ssim(current, executed),
    )


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation of every measure of `count` pairs; keys are the fields of `Pair`."""

    count: int
    mean: dict[str, float]
    deviation: dict[str, float]


def spread(pairs: Iterable[Pair]) -> MeanStd | None:
    """Mean and standard deviation over pairs; None where there are none."""
    pairs = list(pairs)
    if not pairs:
        return None
    columns = {name: [getattr(pair, name) for pair in pairs] for name in ("psnr", "ssim", "still_psnr", "still_ssim")}
    return MeanStd(
        len(pairs),
        {name: float(np.mean(column)) for name, column in columns.items()},
        {name: float(np.std(column)) for name, column in columns.items()},
    )


def by_offset(pairs: Iterable[Pair]) -> dict[int, MeanStd]:
    """Offset in control steps -> the spread of its pairs, nearest first."""
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.offset, []).append(pair)
    return {offset: found for offset in sorted(groups) if (found := spread(groups[offset]))}
