"""Statistics as LeRobotDataset v3.0 keeps them: of vectors by element, of images by channel in 0 to 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from videopolicy.types import Frames

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Histogram = Int64[np.ndarray, "3 256"]


def of_vectors(values: Float[np.ndarray, "N D"]) -> dict[str, Any]:
    """Statistics over the rows; each entry has length D, the count length 1."""
    wide = values.astype(np.float64)
    parts = {"min": wide.min(0), "max": wide.max(0), "mean": wide.mean(0), "std": wide.std(0)}
    parts |= zip(QUANTILES, np.quantile(wide, list(QUANTILES.values()), axis=0), strict=True)
    return {name: part.tolist() for name, part in parts.items()} | {"count": [len(values)]}


def of_parts(parts: Sequence[Float[np.ndarray, "n D"]]) -> dict[str, Any]:
    """What `of_vectors` gives for the rows of all parts; memory holds one dimension of them at a time."""
    dimensions = range(parts[0].shape[1])
    found = [of_vectors(np.concatenate([part[:, [dimension]] for part in parts])) for dimension in dimensions]
    merged = {name: [one[name][0] for one in found] for name in found[0]}
    return merged | {"count": found[0]["count"]}


def histogram(frames: Frames) -> Histogram:
    """How often each channel takes each of its 256 values. Histograms add up; the statistics of the sum are exact."""
    return np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(3)])


def of_histogram(counts: Histogram, frames: int) -> dict[str, Any]:
    """Statistics of images from their histogram; each entry has shape (3, 1, 1), values in 0 to 1."""
    levels = np.arange(256) / 255
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    parts = {"min": levels[(counts > 0).argmax(1)], "max": levels[255 - (counts[:, ::-1] > 0).argmax(1)]}
    parts |= {"mean": mean, "std": std}
    reached = share.cumsum(1)
    parts |= {name: levels[np.minimum((reached < q).sum(1), 255)] for name, q in QUANTILES.items()}
    return {name: part.reshape(3, 1, 1).tolist() for name, part in parts.items()} | {"count": [frames]}
