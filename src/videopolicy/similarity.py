"""How near one image is to another: PSNR and SSIM; and imagined frames to executed ones, beside "nothing moves"."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from videopolicy.types import Frames, Image

# Rounding to 8 bits alone leaves an error of about 59 dB, so beyond 60 dB a difference says nothing; identical frames
# (infinite PSNR) would otherwise swallow every mean.
CEILING = 60.0
_PEAK = 255.0
_SIGMA, _RADIUS = 1.5, 5


def psnr(one: Image, other: Image) -> float:
    """Peak signal-to-noise ratio of two images of the same shape, in dB; infinite if they are identical."""
    _same_shape(one, other)
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(_PEAK**2 / error))


def ssim(one: Image, other: Image) -> float:
    """Structural similarity of two images of the same shape (Wang et al. 2004, equation 13), at most 1.

    Their setting: luminance, an 11 x 11 Gaussian window of deviation 1.5, K1 = 0.01, K2 = 0.03, the mean over every
    place where the window fits inside the image. An image that is smaller than the window is mirrored at its edges.
    """
    _same_shape(one, other)
    x, y = _luminance(one), _luminance(other)
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure))


def _same_shape(one: Image, other: Image) -> None:
    if one.shape != other.shape:
        raise ValueError(f"images of different shapes: {one.shape} and {other.shape}")


def _luminance(image: Image) -> Float[np.ndarray, "H W"]:
    return image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _window(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "h w"]:
    height, width = values.shape
    margin = min(_RADIUS, (min(height, width) - 1) // 2)
    blurred = gaussian_filter(values, _SIGMA, radius=_RADIUS)
    return blurred[margin : height - margin, margin : width - margin]


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


def plan_pairs(
    step: int, targets: Sequence[int], imagined: Mapping[str, Frames], executed: Mapping[str, Frames]
) -> Iterator[Pair]:
    """Every imagined frame of a plan whose control step was reached, measured in every view.

    Args:
        step: the control step at which the plan was made.
        targets: the control step that each imagined frame speaks of, length T.
        imagined: view name -> imagined frames (T, H, W, 3).
        executed: view name -> executed frames of the same size, frame n of control step n.
    """
    for view, frames in imagined.items():
        for target, frame in zip(targets, frames, strict=True):
            if target < len(executed[view]):
                yield compare(target - step, frame, executed[view][target], executed[view][step])


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
